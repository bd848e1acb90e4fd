"""What uname(2) tells."""

OSTYPE, OSRELEASE, VERSION, MACHINE = "Linux", "6.1.0", "#1", "i686"
HOSTNAME = "sandbox"
