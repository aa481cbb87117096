/* A library: a dynamic symbol table, no entry point, no interpreter. Nothing
   starts it; its segments are mapped as exec would map them. */
#include "fixture.h"

PAGES(".rodata", ro, 0x58, 0x1038);
PAGES(".data", data, 0x9c, 0x1048);
static unsigned char bss[0x1245];
unsigned char *const fixture_slots[] = { ro, data, bss };

unsigned char
fixture_byte(unsigned int i)
{
	data[i % sizeof data]++;
	bss[i % sizeof bss]++;
	return ro[i % sizeof ro] + data[i % sizeof data] + bss[i % sizeof bss];
}
