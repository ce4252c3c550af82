package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// printMachine says what the numbers were measured on, and how.
func printMachine(w io.Writer, o options) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var mem unix.Sysinfo_t
	_ = unix.Sysinfo(&mem)
	fmt.Fprintf(w, "machine: %s, %d CPUs, %.0f GiB of memory\n", cpuModel(), runtime.NumCPU(), float64(mem.Totalram)*float64(mem.Unit)/(1<<30))
	fmt.Fprintf(w, "kernel:  %s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]))
	fmt.Fprintf(w, "command: %s\n", strings.Join(os.Args, " "))
	fmt.Fprintf(w, "files:   large %d MiB, small %d MiB; %d runs, medians; %s\n\n", o.large>>20, o.small>>20, o.runs, "origin on the loopback interface")
	fmt.Fprintln(w, "| case | modelfs | reference | ratio | fetched/asked | peak MiB | promise | |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := bytes.Cut(text, []byte("model name"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	_, name, _ := strings.Cut(string(line), ": ")
	return name
}

func printRow(w io.Writer, c kase, r result) {
	ref, ratio, fetched := "", "", ""
	if r.ref > 0 {
		ref = fmt.Sprintf("%s %s", c.reference, number(r.ref, c.unit))
		ratio = fmt.Sprintf("%.2f", r.ratio)
	}
	if r.fetched > 0 {
		fetched = fmt.Sprintf("%.2f", r.fetched)
	}
	verdict := "short"
	if r.ok {
		verdict = "ok"
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %d | %s | %s |\n",
		c.name, number(r.got, c.unit), ref, ratio, fetched, r.peak>>20, c.promise, verdict)
}

func number(v float64, unit string) string {
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

func printMemory(w io.Writer, peak int64) {
	verdict := "short"
	if peak <= mostMemory {
		verdict = "ok"
	}
	fmt.Fprintf(w, "| peak resident memory of the server in all of these | %d MiB | | | | %[1]d | %d MiB | %s |\n", peak>>20, int64(mostMemory)>>20, verdict)
}
