// Command stores writes the stores of Ollama and Docker Model Runner with
// their own code, and removes models from them:
//
//	stores ollama DIR add NAME FILE    as "ollama create" does
//	stores ollama DIR rm NAME          as "ollama rm" does
//	stores docker DIR add TAG FILE...  as "docker model package --load" does; a GGUF file, or safetensors
//	stores docker DIR cut FILE         the same, interrupted in the middle of the weights
//	stores docker DIR tag FROM TO
//	stores docker DIR rm TAG           as "docker model rm" does
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stores:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("too few arguments: %q", args)
	}
	kind, dir, what, args := args[0], args[1], args[2], args[3:]
	switch kind {
	case "ollama":
		return runOllama(dir, what, args)
	case "docker":
		return runDocker(dir, what, args)
	}
	return fmt.Errorf("no store of %q is known", kind)
}
