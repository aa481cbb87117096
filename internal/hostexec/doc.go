// Package hostexec asks the kernel of the host, for tests, whether it runs a
// file: the oracle for what a loader accepts.
package hostexec
