// Package live shows a running Linux process as a mem.AddressSpace, together
// with the files that it maps. It changes nothing in the process: memory is
// read only where the page table has a page already, so that nothing is faulted
// in.
//
//	/proc/PID/maps        the VMAs: range, permissions, offset, device, inode, path
//	/proc/PID/pagemap     8 bytes a page: 63 present, 62 swapped, 61 file page (or
//	                      shared anonymous); so present and not 61 in a private
//	                      mapping of a file is a copy of the process's own
//	/proc/PID/mem         the bytes; reading an absent page would populate it, hence
//	                      the pagemap first
//	/proc/PID/map_files   a link to the very file that is mapped, whatever its path
//	                      leads to by now (following it takes CAP_SYS_ADMIN or
//	                      CAP_CHECKPOINT_RESTORE)
//	/proc/PID/root        the process's view of paths, where map_files is closed
//
// A process that runs changes while it is looked at: between a look at pagemap
// and the read a page may be reclaimed (the read then brings it back) or copied.
// Who finds a difference looks again, through a Process opened anew.
//
// The files of /proc/PID belong to the address space of the moment in which they
// were opened. After an exec they read as empty: ErrGone.
package live
