package store

import (
	iofs "io/fs"
	"syscall"
	"time"
)

func statOf(fi iofs.FileInfo) *syscall.Stat_t {
	st, _ := fi.Sys().(*syscall.Stat_t)
	return st
}

// accessTime is when a blob was last opened: OpenBlob sets it.
func accessTime(fi iofs.FileInfo) time.Time {
	if st := statOf(fi); st != nil {
		return time.Unix(st.Atim.Unix())
	}
	return time.Time{}
}

// diskBytes is what the file occupies.
func diskBytes(fi iofs.FileInfo) int64 {
	if st := statOf(fi); st != nil {
		return st.Blocks * 512
	}
	return fi.Size()
}
