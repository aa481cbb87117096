// Package trace holds operations on processes and their memory (fork, exec,
// exit, mmap, ..., touch), their text form, and a runner that drives a Machine
// with them.
//
// The text form has one operation a line: the process, what it does, and
// behind an equals sign the answer, which is checked where it is given.
//
//	vmsim-trace 1
//	1 boot ../elf/kevlar-layout             # init, PID 1
//	test "write after fork"                 # what follows is one test
//	1 fork = 2
//	2 exec ../elf/kevlar-layout = 0
//	2 touch w 0x51d008 0x41
//	2 touch r 0x51d008 = 0x41               # the byte at that address
//	2 exit
//
// A Decoder turns text into Ops and checks each line by itself; Op.String and
// Format turn Ops into text; a Runner checks what only the whole trace can
// tell (who was forked, who is gone) and runs it.
//
//	text --Decoder--> Op --Runner--> Machine
//	  ^                |                |
//	  +---- Format ----+     Result <---+
package trace
