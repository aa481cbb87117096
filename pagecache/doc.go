// Package pagecache maps (file, page index) to the frame that holds the page
// (Linux: the address_space of an inode, mm/filemap.c).
//
// A frame of the cache holds the bytes that the area which faulted it in
// covered, and zeros behind them; how many bytes are valid is recorded in the
// frame table. A page is inserted once and never replaced. Readers that need
// whole pages must look at the valid length: a partly valid page is how case A
// went wrong.
//
//	file 1 -> blocks of 512 pages -> [512]PFN, 0 is not cached
//	          |
//	          +- LRU of blocks (golang-lru), consulted on insert and evict alone
//
// States of a cached frame, by its reference count:
//
//	1     the cache's own: may be evicted
//	> 1   mapped, or pinned by a copy under way: stays
//
// A hit is two loads and sets the frame's referenced bit; eviction takes the
// oldest block and gives referenced pages a second chance.
package pagecache
