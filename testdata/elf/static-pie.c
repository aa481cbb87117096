/*
 * A PIE without an interpreter: it is loaded at an address of the kernel's
 * choice and relocates itself. Until then the slots, in .data.rel.ro, are what
 * the file says: zero.
 */
#include "fixture.h"

struct dyn { unsigned long tag, val; };
struct rela { unsigned long offset, info, addend; };
enum { DT_RELA = 7, DT_RELASZ = 8, R_X86_64_RELATIVE = 8 };

extern struct dyn _DYNAMIC[] HIDDEN;
extern char __ehdr_start[] HIDDEN;

PAGES(".rodata", ro, 0x54, 0x1238);
PAGES(".data", data, 0x98, 0x1248);
static unsigned char bss[0x2345];
static unsigned char *const slots[] = { ro, data, bss };

static void
relocate(unsigned long bias)
{
	const struct rela *r = 0;
	unsigned long n = 0;

	for (const struct dyn *d = _DYNAMIC; d->tag; d++) {
		if (d->tag == DT_RELA)
			r = (const struct rela *)(bias + d->val);
		if (d->tag == DT_RELASZ)
			n = d->val / sizeof *r;
	}
	for (; n; n--, r++) {
		if (r->info != R_X86_64_RELATIVE)
			leave(2);
		*(unsigned long *)(bias + r->offset) = bias + r->addend;
	}
}

__attribute__((force_align_arg_pointer)) _Noreturn void
_start(void)
{
	relocate((unsigned long)__ehdr_start);
	LOOK(&data[1]) = 0x5a;
	LOOK(&bss[sizeof bss - 1]) = 0xa5;
	leave(LOOK(ro) != 0x55 || LOOK(data) != 0x99 || LOOK(&data[1]) != 0x5a ||
	      LOOK(bss) != 0 || LOOK(&slots[0]) != ro || LOOK(&slots[1]) != data ||
	      LOOK(&slots[2]) != bss);
}
