/*
 * A PIE that names an interpreter, and needs no library. The kernel maps both
 * files; the interpreter relocates this one and jumps to _start.
 */
#include "fixture.h"

PAGES(".rodata", ro, 0x56, 0x1138);
PAGES(".data", data, 0x9a, 0x1148);
static unsigned char bss[0x1345];
static unsigned char *const slots[] = { ro, data, bss };

__attribute__((force_align_arg_pointer)) _Noreturn void
_start(void)
{
	LOOK(&data[1]) = 0x5a;
	LOOK(&bss[sizeof bss - 1]) = 0xa5;
	leave(LOOK(ro) != 0x57 || LOOK(data) != 0x9b || LOOK(&data[1]) != 0x5a ||
	      LOOK(bss) != 0 || LOOK(&slots[0]) != ro || LOOK(&slots[1]) != data ||
	      LOOK(&slots[2]) != bss);
}
