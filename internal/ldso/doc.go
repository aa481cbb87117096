// Package ldso finds the libraries of a program as the dynamic linker of glibc
// does on x86-64, without running anything: DT_NEEDED, breadth first, each
// looked for
//
//	where the name has a slash: there
//	else  among what is loaded already, by name and DT_SONAME
//	      in DT_RPATH of the object that needs it, of what loaded that, and so on
//	      up to the program, unless the object has a DT_RUNPATH
//	      in DT_RUNPATH of the object
//	      in /etc/ld.so.cache
//	      in the default directories
//
// with $ORIGIN, $LIB and $PLATFORM put in. A file that is not an ELF64 library for
// x86-64 is passed over in directories, as ld.so does.
//
// Compare glibc elf/dl-load.c:_dl_map_object, elf/dl-cache.c:_dl_load_cache_lookup.
//
// What depends on more than files is left out: LD_LIBRARY_PATH, LD_PRELOAD and
// /etc/ld.so.preload, and the variants of libraries for newer CPUs
// (glibc-hwcaps).
package ldso
