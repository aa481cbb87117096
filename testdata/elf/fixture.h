/*
 * What the fixtures in C share. They use no libc, so that nothing of the
 * machine that builds them gets in.
 */

__asm__(".pushsection .text\n.include \"fixture.inc\"\n.popsection");

/* PAGES defines name, an array of size bytes as fixture.inc's pages fills it,
   in a section of the given kind: ".rodata" or ".data". */
#define PAGES(kind, name, tag, size) \
	extern HIDDEN unsigned char name[size]; \
	__asm__(".pushsection " kind "\n.balign 16\n" \
		#name ": pages " #tag ", " #size "\n.popsection")

#define HIDDEN __attribute__((visibility("hidden")))

/* LOOK reads *p from memory, whatever the compiler believes it holds. */
#define LOOK(p) (*(volatile __typeof__(*(p)) *)(p))

/* leave is exit(2). */
static inline _Noreturn void
leave(long status)
{
	for (;;)
		__asm__ volatile("syscall" : : "a"(60L), "D"(status)
				 : "rcx", "r11", "memory");
}
