package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what was built, from what, by what",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo()
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine(info))
			return err
		},
	}
}

// versionLine describes a build; info may be nil.
func versionLine(info *debug.BuildInfo) string {
	platform := fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info == nil {
		return "modelfs (unknown version) " + platform
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	vcs := make(map[string]string)
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	line := "modelfs " + version
	if rev := vcs["vcs.revision"]; rev != "" && version == "(devel)" {
		line += " " + rev[:min(12, len(rev))]
		if vcs["vcs.modified"] == "true" {
			line += " (modified)"
		}
	}
	return line + " " + platform
}

// version is the module's version alone, for User-Agent headers.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
