package fs

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// The control directory:
//
//	.modelfs/status.json              what modelfs is doing
//	.modelfs/explain/<name>.json      why a name resolves as it does (root only)
//	.modelfs/all/                     the tree with nothing left out (root only)
//	<model>/.modelfs/status.json      the same, for containers that see only the model
//	<model>/.modelfs/explain.json     that model's explanation
//
// Its files are made anew for each open and read past the page cache, so
// their stated size of 0 does not matter.
const (
	statusName  = "status.json"
	explainName = "explain"
	allName     = "all"
	jsonSuffix  = ".json"
)

// allDir is where everything is listed. What is below it has the names that it
// has below the root.
const allDir = model.ControlDir + "/" + allName

// nameAt is the name of a model or a namespace whose directory has the path.
func nameAt(full string, in role) string {
	switch {
	case !in.all:
		return full
	case full == allDir:
		return ""
	}
	return strings.TrimPrefix(full, allDir+"/")
}

// names is who answers for what is in a directory.
func (r *rawFS) names(in role) Names {
	if in.all && r.cfg.All != nil {
		return r.cfg.All
	}
	return r.cfg.Names
}

// controlDir is the .modelfs directory of the root or of a model.
func (r *rawFS) controlDir(parent *node, of string) *node {
	full := join(parent.path, model.ControlDir)
	return r.node(&node{
		kind: kindCtlDir, path: full, role: role{model: of}, ino: inoOf("ctl", full), key: nodeKey{kind: kindCtlDir, path: full},
	})
}

// controlChild looks a name up in a control directory. Every name that a model
// can have is there below explain/, which is therefore not listed.
func (r *rawFS) controlChild(parent *node, name string) (*node, time.Duration, error) {
	of := parent.getRole()
	full := join(parent.path, name)
	switch {
	case base(parent.path) == model.ControlDir && name == statusName:
		return r.controlFile(full, ""), settledTimeout, nil
	case of.model != "" && name == explainName+jsonSuffix:
		return r.controlFile(full, of.model), settledTimeout, nil
	case of.model == "" && full == model.ControlDir+"/"+explainName:
		return r.explainDir(full), settledTimeout, nil
	case full == allDir && r.cfg.All != nil:
		return r.directory(full, role{all: true}, time.Time{}), settledTimeout, nil
	}
	if of.model == "" && strings.HasPrefix(full, model.ControlDir+"/"+explainName+"/") {
		return r.explained(full, name)
	}
	return nil, 0, model.Errorf(model.NotFound, "there is no %s", full)
}

func (r *rawFS) explained(full, name string) (*node, time.Duration, error) {
	if asked, ok := strings.CutSuffix(full, jsonSuffix); ok {
		asked = strings.TrimPrefix(asked, model.ControlDir+"/"+explainName+"/")
		if _, err := model.ParseName(asked); err != nil {
			return nil, 0, err
		}
		return r.controlFile(full, asked), settledTimeout, nil
	}
	if strings.Count(full, "/") != 2 || !model.ValidEntry(name) {
		return nil, 0, model.Errorf(model.NotFound, "%s can't be a namespace", name)
	}
	return r.explainDir(full), settledTimeout, nil
}

func (r *rawFS) explainDir(full string) *node {
	return r.node(&node{kind: kindCtlDir, path: full, ino: inoOf("ctl", full), key: nodeKey{kind: kindCtlDir, path: full}})
}

// controlFile shows the explanation of a name, or the status for "".
func (r *rawFS) controlFile(full, about string) *node {
	return r.node(&node{
		kind: kindCtlFile, path: full, text: about, ino: inoOf("ctl", full), key: nodeKey{kind: kindCtlFile, path: full},
	})
}

// controlText makes what one open of a control file shows.
func (r *rawFS) controlText(ctx context.Context, n *node) (model.Reader, error) {
	var v any
	switch {
	case n.text != "" && r.cfg.Explain != nil:
		v = r.cfg.Explain(ctx, n.text)
	case n.text == "" && r.cfg.Status != nil:
		v = r.cfg.Status()
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return textReader(append(text, '\n')), ctx.Err()
}

func (r *rawFS) controlEntries(n *node) []dirent {
	if path.Base(n.path) != model.ControlDir {
		return nil
	}
	second := dirent{name: explainName, mode: unix.S_IFDIR}
	if n.getRole().model != "" {
		second = dirent{name: explainName + jsonSuffix, mode: unix.S_IFREG}
	}
	entries := []dirent{{name: statusName, mode: unix.S_IFREG}, second}
	if n.path == model.ControlDir && r.cfg.All != nil {
		entries = append(entries, dirent{name: allName, mode: unix.S_IFDIR})
	}
	return entries
}
