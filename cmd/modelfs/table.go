package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A table is text in columns, two spaces apart.
type table struct {
	columns []column
	rows    [][]string
}

// A column says how its cells are written.
type column struct {
	title string
	right bool // numbers line up at their ends
	rank  int  // on a narrow terminal that of rank 1 is cut first; 0: it is never cut
	least int  // columns that are left of it then
	cut   cut  // where its cells are cut
	open  bool // the last column, of sentences: the terminal may wrap it
}

// A cut is where a cell loses what does not fit.
type cut int

const (
	atEnd cut = iota
	atStart
	inMiddle
)

// text writes the table so that no line is wider than width columns, as far as
// cells may be cut; 0 is no limit.
func (t table) text(width int) string {
	widths := make([]int, len(t.columns))
	total := -2
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		if !c.open {
			total += widths[i] + 2
		}
	}
	if width > 0 {
		t.fit(widths, total-width)
	}
	var b strings.Builder
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	t.line(&b, titles, widths)
	for _, row := range t.rows {
		t.line(&b, row, widths)
	}
	return b.String()
}

// fit makes columns narrower by as much as is over, in the order of their
// ranks.
func (t table) fit(widths []int, over int) {
	for rank := 1; rank <= len(t.columns) && over > 0; rank++ {
		for i, c := range t.columns {
			if c.rank == rank {
				less := max(min(over, widths[i]-c.least), 0)
				widths[i] -= less
				over -= less
			}
		}
	}
}

func (t table) line(b *strings.Builder, cells []string, widths []int) {
	var line strings.Builder
	for i, cell := range cells {
		cell = cutTo(cell, widths[i], t.columns[i].cut)
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i > 0 {
			line.WriteString("  ")
		}
		if t.columns[i].right {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// cutTo cuts text to n columns, at least one, and shows that it did.
func cutTo(s string, n int, where cut) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	head := n - 1
	switch where {
	case atStart:
		head = 0
	case inMiddle:
		head /= 2
	}
	return string(runes[:head]) + "…" + string(runes[len(runes)-(n-1-head):])
}

// screen is the size of a terminal; 0 for anything else, and for consoles of
// containers that have none.
func screen(w io.Writer) (rows, columns int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) //nolint:gosec // a descriptor fits
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}
