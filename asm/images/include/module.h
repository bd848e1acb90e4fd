/*
 * What a module may call, under the kernel's own names.  C convention: arguments on the stack, the result in eax.
 *
 *      int init_module(void)          0 to stay loaded
 *      void cleanup_module(void)
 *
 * sandbox/kernel/module/ksyms.py says what each does; docs/modules.md has the table.
 */
#ifndef MODULE_H
#define MODULE_H

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define NULL ((void *)0)
#define PAGE_SIZE 4096u
#define PAGE_OFFSET 0xC0000000u
#define TASK_SIZE PAGE_OFFSET
#define virt_to_phys(address) ((u32)(address) - PAGE_OFFSET)
#define phys_to_virt(address) ((void *)((u32)(address) + PAGE_OFFSET))

/* Levels of 2.0, and what is or'ed in. */
#define GFP_BUFFER 0
#define GFP_ATOMIC 1
#define GFP_USER 2
#define GFP_KERNEL 3
#define GFP_NOBUFFER 4
#define GFP_NFS 5
#define GFP_IO 6
#define GFP_DMA 0x80
#define GFP_HIGHMEM 0x100

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EIO 5
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define ENODEV 19
#define EINVAL 22
#define ENOSPC 28

#define KERNEL_DS 0x18
#define USER_DS 0x2B
#define VERIFY_READ 0
#define VERIFY_WRITE 1

/* mem_map's entries, in guest memory. */
struct page {
        u32 flags, count, mapping, index, next, prev, private, virtual;
};
#define PG_LOCKED 1u
#define PG_DMA (1u << 7)
#define PG_HIGHMEM (1u << 11)
#define PG_BUDDY (1u << 12)
#define PG_OPEN (1u << 31)      /* clear: reserved */

extern int printk(const char *format, ...);
extern void panic(const char *text);
extern void schedule(void);
extern int current_pid(void);
extern u32 jiffies_now(void);

extern void *kmalloc(u32 size, int priority);
extern void kfree(const void *);
extern u32 __get_free_pages(int priority, u32 order);
extern u32 __get_free_page(int priority);
extern u32 get_free_pages(int priority, u32 order);
extern u32 get_free_page(int priority);
extern u32 __get_dma_pages(int priority, u32 order);
extern u32 __get_dma_page(int priority);
extern void free_pages(u32 address, u32 order);
extern void free_page(u32 address);
extern struct page *alloc_pages(int priority, u32 order);
extern void __free_pages(struct page *, u32 order);
extern u32 nr_free_pages(void);
extern void drain_free_lists(void);
extern void *page_address(struct page *);
extern void *vmalloc(u32 size);
extern void vfree(const void *);
extern u32 vmalloc_to_pfn(const void *);
extern struct page *virt_to_page(const void *);
extern u32 __pa(const void *);

/* A window of this CPU on a page, for a moment in which nobody sleeps; closed by its address. */
enum km_type {
        KM_BOUNCE_READ, KM_SKB_SUNRPC_DATA, KM_SKB_DATA_SOFTIRQ, KM_USER0, KM_USER1, KM_BIO_SRC_IRQ, KM_BIO_DST_IRQ,
        KM_PTE0, KM_PTE1, KM_IRQ0, KM_IRQ1, KM_SOFTIRQ0, KM_SOFTIRQ1, KM_TYPE_NR
};
extern void *kmap_atomic(struct page *, enum km_type);
extern void *kmap_atomic_pages(struct page *, u32 pages, enum km_type);
extern void kunmap_atomic(void *, enum km_type);
extern struct page *kmap_atomic_to_page(void *);
extern void copy_highpage(struct page *to, struct page *from);
extern void clear_highpage(struct page *);

/* An address that is good on every CPU and across sleeps until kunmap, which takes the page; kmap may sleep. */
extern void *kmap(struct page *);
extern void kunmap(struct page *);
extern struct page *kmap_to_page(void *);
extern void kmap_flush_unused(void);

/* The kva pool (post 001): an address for a page of highmem, good on every CPU until kva_put; page_kva is what it has. */
extern void *kva_get(struct page *);
extern void kva_put(struct page *);
extern void *page_kva(struct page *);

/* A page under IO: its kva is not recycled, also without users. */
extern void lock_page(struct page *), unlock_page(struct page *), wait_on_page(struct page *);
extern void vmalloc_sync_all(void);
/* A page of the current program, whose entry was changed: no CPU keeps a translation. */
extern void flush_tlb_page(void *user);

extern void *vremap(u32 physical, u32 size);
extern void *ioremap(u32 physical, u32 size);
extern void *ioremap_nocache(u32 physical, u32 size);
extern void iounmap(void *);
extern int dma_crosses(u32 physical, u32 size, u32 boundary);
extern void *memcpy_fromio(void *to, const void *from, u32 count);
extern void *memcpy_toio(void *to, const void *from, u32 count);
extern void *memset_io(void *to, int byte, u32 count);
extern void *memcpy(void *to, const void *from, u32 count);
extern void *memset(void *to, int byte, u32 count);
extern u32 readb(const void *), readw(const void *), readl(const void *);
extern void writeb(u32 value, void *), writew(u32 value, void *), writel(u32 value, void *);

/* Boot, hot-add, the ISA hole. */
extern void *boot_reservation(const char *name, u32 *size);
extern int add_memory(u32 first_frame, u32 frames);
extern int isa_hole_clear(void);
extern void init_only(void);
extern u32 high_memory, max_pfn, mem_model, vmem_map, section_shift, swapper_pg_dir;
extern struct page *mem_map;
extern u32 *mem_section;
extern int pfn_valid(u32 pfn), pfn_valid_walk(u32 pfn), pfn_valid_fault(u32 pfn);
extern struct page *pfn_to_page(u32 pfn);
extern u32 page_to_pfn(const struct page *);

/* User access: 1.x and 2.0 through FS; 2.1 and later flat, with an exception table. */
extern u32 get_fs(void), get_ds(void);
extern void set_fs(u32 selector);
extern int verify_area(int type, const void *address, u32 size);
extern void memcpy_tofs(void *user, const void *kernel, u32 count);
extern void memcpy_fromfs(void *kernel, const void *user, u32 count);
extern u8 get_fs_byte(const void *);
extern u16 get_fs_word(const void *);
extern u32 get_fs_long(const void *);
extern void put_fs_byte(u32 value, void *), put_fs_word(u32 value, void *), put_fs_long(u32 value, void *);
extern u32 copy_to_user(void *user, const void *kernel, u32 count);
extern u32 copy_from_user(void *kernel, const void *user, u32 count);
extern u32 clear_user(void *user, u32 count);
extern int __get_user(u32 *kernel, const void *user, u32 size);
extern int __put_user(u32 value, void *user, u32 size);
extern int use_mm(int pid), set_current(int pid);
extern void unuse_mm(void);

/* Devices of programs, interrupts, sleeping. */
struct file_operations {
        int (*open)(int file);
        int (*release)(int file);
        int (*read)(int file, char *user, u32 count);
        int (*write)(int file, const char *user, u32 count);
        int (*ioctl)(int file, u32 request, u32 argument);
};
extern int register_chrdev(const char *name, const struct file_operations *);
extern int unregister_chrdev(const char *name);
extern int request_irq(u32 vector, void (*handler)(u32 vector));
extern void free_irq(u32 vector);
extern int in_interrupt(void);
extern void sleep_on(void *word);
extern int interruptible_sleep_on(void *word);
extern void wake_up(void *word);
extern void mod_inc_use_count(void), mod_dec_use_count(void);

/* End the module's init with a number and a line unless a condition holds. */
#define CHECK(number, condition) \
        do { \
                if (!(condition)) { \
                        printk("check %d failed: " #condition "\n", (int)(number)); \
                        return (number); \
                } \
        } while (0)

#endif
