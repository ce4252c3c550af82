package mountinfo

import (
	"slices"
	"strings"
	"testing"
)

const table = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:25 / /models ro,nosuid,nodev shared:7 master:2 - fuse.modelfs modelfs ro,user_id=0
31 21 0:26 / /with\040space\134and\011tab ro - fuse.modelfs modelfs ro
`

func TestParse(t *testing.T) {
	want := []Mount{{"/", "ext4", "254:0", true}, {"/models", "fuse.modelfs", "0:25", true}, {"/with space\\and\ttab", "fuse.modelfs", "0:26", false}}
	if got, err := Parse(strings.NewReader(table)); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRead(t *testing.T) {
	list, err := Read()
	if err != nil || !slices.ContainsFunc(list, func(m Mount) bool { return m.Point == "/" }) {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{"garbage\n", "1 2 3\n", "1 2 3 4 5 6 7 ext4\n", "1 2 3 4 - ext4\n"} {
		if list, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got %v", bad, list)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "/a": "/a", `/a\040b`: "/a b", `\134`: `\`, `/a\04`: `/a\04`, `/a\999b`: `/a\999b`, `\040\040`: "  ",
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add(`1 2 0:3 / /\777 ro - x`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		if n := strings.Count(text, "\n") + 1; len(list) > n {
			t.Errorf("%d mounts in %d lines", len(list), n)
		}
	})
}
