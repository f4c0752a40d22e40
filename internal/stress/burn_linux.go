package main

import (
	"syscall"
	"unsafe"
)

// comeFirst lets this thread come before all others that have no priority of real time,
// or no more. Linux still leaves them a twentieth of each processor. That it is not
// allowed makes the load milder, no more.
func comeFirst(on bool) {
	const other, fifo = 0, 1 // SCHED_OTHER, SCHED_FIFO
	policy, priority := other, int32(0)
	if on {
		policy, priority = fifo, 1
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, uintptr(policy), uintptr(unsafe.Pointer(&priority)))
}
