// Package mountinfo answers: what is mounted where, as this process sees it?
//
// The kernel makes the table without asking any filesystem, so one that is dead
// or hung is seen without being touched.
package mountinfo

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// File is where the kernel shows the table, proc_pid_mountinfo(5). It says by
// POLLPRI that the table has changed.
const File = "/proc/self/mountinfo"

// A Mount is one line of the table.
type Mount struct {
	Point  string // absolute, without links
	Type   string // "fuse.modelfs", "ext4", …
	Device string // "major:minor"
	Shared bool   // mounts below it reach its peers
}

// Read reads the table, in order of mounting: where two lie on one point, the
// later one is on top.
func Read() ([]Mount, error) {
	f, err := os.Open(File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(f)
}

// Parse parses a table: the fifth field is the mount point, a "-" ends the
// optional fields, the type follows it.
func Parse(r io.Reader) ([]Mount, error) {
	var list []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 {
			return nil, fmt.Errorf("mount table: a line of %d fields", len(fields))
		}
		kind, _, _ := strings.Cut(after, " ")
		shared := slices.ContainsFunc(fields[6:], func(f string) bool { return strings.HasPrefix(f, "shared:") })
		list = append(list, Mount{Point: unescape(fields[4]), Type: kind, Device: fields[2], Shared: shared})
	}
	return list, lines.Err()
}

// unescape undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
