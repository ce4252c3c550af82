package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
)

// Pin is control.Keeper's. Files that are not here yet are kept once they are.
func (o *Operator) Pin(ctx context.Context, name string) (control.Kept, error) {
	return o.each(ctx, name, "pinned", o.chosen, o.Keeper.Pin)
}

// Unpin is control.Keeper's. It releases hidden files, too: they may have been
// listed when they were pinned.
func (o *Operator) Unpin(ctx context.Context, name string) (control.Kept, error) {
	all := func(n model.Name, v *model.View) []*model.File {
		return o.chosen(n, &model.View{Model: v.Model})
	}
	return o.each(ctx, name, "unpinned", all, o.Keeper.Unpin)
}

// each does something to every key of those files of a model that choose
// chooses.
func (o *Operator) each(ctx context.Context, name, what string, choose func(model.Name, *model.View) []*model.File, do func(model.Key) error) (control.Kept, error) {
	kept := control.Kept{Name: name}
	n, v, err := o.find(ctx, name)
	switch {
	case err != nil:
		return kept, err
	case v.Kind.InPlace():
		return kept, model.Errorf(model.Invalid, "%s is read in place from %s: the backing dir has nothing of it that could be %s", name, v.Source, what)
	}
	for _, f := range choose(n, v) {
		if f.Key.Once() {
			continue // nothing of it is kept
		}
		for _, key := range keys(f) {
			if err := do(key); err != nil {
				return kept, fmt.Errorf("%s: %w", f.Path, err)
			}
		}
		kept.Files++
		kept.Bytes += o.here(f)
	}
	return kept, nil
}

// Remove is control.Keeper's. What can't be dropped (it is open, or pinned)
// stays, and the error names it. Where nothing of the model is left, its
// records go, too: the name means what its source says from then on.
func (o *Operator) Remove(ctx context.Context, name string) (control.Kept, error) {
	kept := control.Kept{Name: name}
	n, v, err := o.find(ctx, name)
	switch {
	case err != nil:
		return kept, err
	case v.Kind.InPlace():
		return kept, model.Errorf(model.Invalid, "%s is read in place from %s, which modelfs never changes", name, v.Source)
	}
	var own map[string]bool // with a quantisation its weights only: the rest belongs to the others, too
	if n.Quant != "" {
		own = o.Variants(v.Model, n.Quant).Own
	}
	var held heldFiles
	for i := range v.Files {
		f := &v.Files[i]
		if len(own) > 0 && !own[f.Path] {
			continue
		}
		size := o.here(f)
		if removed := held.add(f, o.removeFile(f)); removed {
			kept.Files++
			kept.Bytes += size
		}
	}
	kept.Paths = held.paths()
	if err := held.err(name); err != nil {
		return kept, err
	}
	if o.empty(v.Model) {
		return kept, o.Records.Forget(name)
	}
	return kept, nil
}

// removeFile drops what there is of a file, under all its keys.
func (o *Operator) removeFile(f *model.File) error {
	err := model.Errorf(model.NotFound, "nothing of it is here")
	for _, key := range keys(f) {
		switch e := o.Keeper.Remove(key); {
		case model.IsKind(e, model.NotFound):
		case e != nil:
			return e
		default:
			err = nil
		}
	}
	return err
}

// empty reports whether nothing of a model is here.
func (o *Operator) empty(m *model.Model) bool {
	for i := range m.Files {
		if o.here(&m.Files[i]) > 0 {
			return false
		}
	}
	return true
}

// heldFiles are those that could not be dropped.
type heldFiles struct {
	open, pinned []string
	others       []error
}

// add notes how the removal of a file ended, and reports whether it is gone
// now and was not before.
func (h *heldFiles) add(f *model.File, err error) bool {
	switch {
	case err == nil:
		return true
	case model.IsKind(err, model.NotFound):
	case model.IsKind(err, model.InUse):
		h.open = append(h.open, f.Path)
	case model.IsKind(err, model.Denied):
		h.pinned = append(h.pinned, f.Path)
	default:
		h.others = append(h.others, fmt.Errorf("%s: %w", f.Path, err))
	}
	return false
}

func (h *heldFiles) paths() []string { return append(append([]string(nil), h.open...), h.pinned...) }

func (h *heldFiles) err(name string) error {
	errs := h.others
	if len(h.open) > 0 {
		errs = append(errs, model.Errorf(model.InUse, "%s: still open or being downloaded: %s; stop what reads it and try again", name, strings.Join(h.open, ", ")))
	}
	if len(h.pinned) > 0 {
		errs = append(errs, model.Errorf(model.Denied, "%s: pinned: %s; say modelfs unpin %s first", name, strings.Join(h.pinned, ", "), name))
	}
	return errors.Join(errs...)
}
