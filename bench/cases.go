package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	mib = 1 << 20
	// latency and rate are those of a distant Hub: what it adds before each
	// answer, and the bytes a second that one connection gets.
	latency = 20 * time.Millisecond
	rate    = 100_000_000
	// firstLatency is for the time to the first byte, where it is all that counts.
	firstLatency = 50 * time.Millisecond
)

// The networks between the machine and the Hub.
var (
	distant   = order{Do: "behave", Latency: latency, Rate: rate}
	unlimited = order{Do: "behave"}
	slow      = order{Do: "behave", Latency: firstLatency, Rate: rate}
)

func cases() []kase {
	return slices.Concat(coldCases(), scatteredCases(), warmCases(), costCases())
}

func atLeast(ratio float64) func(result) bool { return func(r result) bool { return r.ratio >= ratio } }

func below(limit float64) func(result) bool { return func(r result) bool { return r.got < limit } }

func frugal(most float64) func(result) bool { return func(r result) bool { return r.fetched <= most } }

func both(a, b func(result) bool) func(result) bool {
	return func(r result) bool { return a(r) && b(r) }
}

// coldCases are about files of which nothing is here.
func coldCases() []kase {
	return []kase{
		{"cold read, 20 ms, 100 MB/s a connection", "MiB/s", "aria2c -x8 -s8", "0.9 of it, fetched <= 1.02",
			coldRead(distant, large), both(atLeast(0.9), frugal(1.02))},
		{"cold read, no limits", "MiB/s", "aria2c -x8 -s8", "0.7 of it and 600 MB/s, fetched <= 1.02",
			coldRead(unlimited, large), both(both(atLeast(0.7), frugal(1.02)), fastEnough)},
		{"cold read, small file, 20 ms", "MiB/s", "aria2c -x8 -s8", "ahead of it",
			coldRead(distant, small), atLeast(1)},
		{"cold read, small file, one curl", "MiB/s", "curl", "ahead of it",
			coldAgainst(unlimited, small, "curl", "-sfL", "-o", "download"), atLeast(1)},
		{"cold mmap scan without advice, 20 ms", "MiB/s", "cold read", "0.8 of it", coldMapping, atLeast(0.8)},
		{"first byte, 50 ms", "ms", "", "3 round trips", firstByte, below(3 * 50)},
		{"last MiB during the fill, 20 ms", "ms", "", "3 round trips + 100 ms", lastMiB, below(3*20 + 100)},
	}
}

// fastEnough: 600 MB/s where the reference gets there.
func fastEnough(r result) bool { return r.got*mib >= min(600e6, r.ref*mib) }

// scatteredCases are about reads of 1 MiB at random places of a cold file.
func scatteredCases() []kase {
	var list []kase
	for _, fill := range []string{"touched", "auto"} {
		list = append(list,
			kase{"scattered, 8 threads, 4 GiB, " + fill, "MiB/s", "1 thread", "5 times it", moreThreads(fill, 8, 1), atLeast(5)},
			kase{"scattered, 32 threads, 4 GiB, " + fill, "MiB/s", "8 threads", "not less", moreThreads(fill, 32, 8), atLeast(1)})
	}
	for _, c := range []struct {
		threads int
		rclone  float64 // MiB/s, measured once on such a machine
	}{{1, 378}, {8, 85}, {32, 162}} {
		ahead := func(r result) bool { return r.got > c.rclone }
		list = append(list,
			kase{fmt.Sprintf("512 random MiB of 1 GiB, %d threads, auto", c.threads), "MiB/s", "", fmt.Sprintf("ahead of %.0f", c.rclone),
				scatteredSmall("random", c.threads), ahead},
			kase{fmt.Sprintf("1 GiB in random order, %d threads, auto", c.threads), "MiB/s", "", fmt.Sprintf("ahead of %.0f", c.rclone),
				scatteredSmall("shuffled", c.threads), ahead})
	}
	return list
}

// warmCases are about files that are complete.
func warmCases() []kase {
	var list []kase
	for _, cold := range []bool{true, false} {
		name := map[bool]string{true: "from disk", false: "from memory"}[cold]
		list = append(list,
			kase{"complete file, sequential, " + name, "MiB/s", "native", "0.95 of it", warm(cold, job{Way: "read"}), atLeast(0.95)},
			kase{"complete file, random 4 KiB, " + name, "MiB/s", "native", "0.95 of it",
				warm(cold, job{Way: "random", Piece: 4096, Threads: 1, Reads: reads4K(cold)}), atLeast(0.95)},
			kase{"complete file, mmap, " + name, "MiB/s", "native", "0.95 of it", warm(cold, job{Way: "map"}), atLeast(0.95)})
	}
	return list
}

func reads4K(cold bool) int {
	if cold {
		return 20_000
	}
	return 1_000_000
}

func notMuchMore(r result) bool { return r.ratio <= 1.5 }

// costCases are about bytes and time that a reader does not see.
func costCases() []kase {
	return []kase{
		{"bytes fetched for the first MiB", "MiB", "", "16 MiB", headOnly, func(r result) bool { return r.got <= 16 }},
		{"bytes fetched again, server killed, 40 MB/s a connection", "MiB", "", "8 MiB", killServer, func(r result) bool { return r.got <= 8 }},
		{"bytes fetched again, daemon killed, 40 MB/s a connection", "MiB", "", "8 MiB", killAll, func(r result) bool { return r.got <= 8 }},
		{"completion after the last byte", "ms", "", "300 ms", completion, below(300)},
		{"file of 1.4 caches, 8 readers, second time", "MiB", "its size", "1.5 times it, the other model stays", tooLarge(oneFile, true), notMuchMore},
		{"set of 1.4 caches, 8 readers, second time", "MiB", "its size", "1.5 times it", tooLarge(allShards, false), notMuchMore},
	}
}
