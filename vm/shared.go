package vm

import (
	"vmsim/mem"
)

// SharedObject is memory that several mappings see, without a file that it could
// be read from again: shared anonymous memory, a memfd, System V shared memory, a
// file of a tmpfs. It is zero where nothing was written.
//
// Compare Linux mm/shmem.c.
type SharedObject struct {
	m      *Machine
	file   *mem.BytesFile // its name; it has no bytes
	size   uint64
	no     uint32 // in the page cache
	spaces int    // address spaces that map it
	held   bool   // by who made it
}

// NewShared makes a shared object for Mapping.Object. name is what Areas show:
// "/memfd:buffer (deleted)". size, in bytes, is remembered and not enforced:
// pages behind it are there too.
//
// It lives until Release was called and nobody maps it any more, or until Reset.
func (m *Machine) NewShared(name string, size uint64) *SharedObject {
	o := m.newObject(name, size)
	o.held = true
	return o
}

func (m *Machine) newObject(name string, size uint64) *SharedObject {
	o := &SharedObject{m: m, file: mem.NewBytesFile(name, nil), size: size}
	o.no = m.cache.OpenAnonymous(o.file)
	m.shared[o.no] = o
	return o
}

// Name returns what the object is called.
func (o *SharedObject) Name() string { return o.file.Name() }

// Size returns the size that NewShared was told, in bytes.
func (o *SharedObject) Size() uint64 { return o.size }

// Pages returns how many 4 KiB pages of the object exist; 0 when it is gone.
func (o *SharedObject) Pages() int {
	if !o.alive() {
		return 0
	}
	return o.m.cache.FilePages(o.no)
}

// Release says that nobody will map the object anew (Linux: the last close, or
// shmctl(IPC_RMID)). Mappings keep it.
func (o *SharedObject) Release() {
	if !o.alive() {
		return
	}
	o.held = false
	o.m.reap(o)
	o.m.settle()
}

// alive is false once the object is gone: its number may be another's.
func (o *SharedObject) alive() bool { return o.m.shared[o.no] == o }

// reap frees an object that nothing holds.
func (m *Machine) reap(o *SharedObject) {
	if o.spaces == 0 && !o.held {
		delete(m.shared, o.no)
		m.cache.CloseAnonymous(o.no)
	}
}

// addShared counts n more pages of object no that s maps.
func (m *Machine) addShared(s *mm, no uint32, n int) {
	if s.shared == nil {
		s.shared = map[uint32]int{}
	}
	if s.shared[no] == 0 {
		m.shared[no].spaces++
	}
	s.shared[no] += n
}

// dropShared counts n pages less.
func (m *Machine) dropShared(s *mm, no uint32, n int) {
	if s.shared[no] -= n; s.shared[no] > 0 {
		return
	}
	delete(s.shared, no)
	o := m.shared[no]
	o.spaces--
	m.reap(o)
}
