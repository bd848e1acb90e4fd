"""Guest kernel code: modules, what they may call, and how programs and devices reach them."""
