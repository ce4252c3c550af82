package discover

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"modelfs/source/internal/mounts"
)

// maxSettings bounds LM Studio's pointer and settings files.
const maxSettings = 1 << 20

// lmStudio are the places where LM Studio keeps models: its home may be
// elsewhere, and its settings name another folder.
func lmStudio(home string, m *mounts.Table) []Store {
	if home == "" {
		return nil
	}
	var all []Store
	base := filepath.Join(home, ".lmstudio")
	if p := strings.TrimSpace(string(readSmall(m, filepath.Join(home, ".lmstudio-home-pointer"), maxSettings))); filepath.IsAbs(p) {
		base = p
	}
	var settings struct {
		Folder string `json:"downloadsFolder"`
	}
	if raw := readSmall(m, filepath.Join(base, "settings.json"), maxSettings); raw != nil && json.Unmarshal(raw, &settings) == nil && settings.Folder != "" {
		all = append(all, Store{Kind: LMStudio, From: "LM Studio's settings", Dir: expand(settings.Folder, home)})
	}
	for _, dir := range []string{filepath.Join(base, "models"), filepath.Join(home, ".cache", "lm-studio", "models")} {
		all = append(all, Store{Kind: LMStudio, From: byDefault, Dir: dir})
	}
	return all
}
