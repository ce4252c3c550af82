package stores

import "modelfs/internal/model"

// lmStudio reads publisher/model/files: exactly two levels, then files. What
// lies elsewhere LM Studio does not see either.
func lmStudio(l *look) ([]*book, error) {
	return l.pairs(".", nil, func(name string) string { return name })
}

// pairs are the directories two levels below root, named owner/name after
// decode. Owners in skip are none.
func (l *look) pairs(root string, skip map[string]bool, decode func(string) string) ([]*book, error) {
	top, err := l.list(root)
	if err != nil {
		return nil, err
	}
	var books []*book
	for _, owner := range top.Dirs {
		if skip[owner] {
			continue
		}
		dir := join(root, owner)
		in, err := l.list(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range in.Dirs {
			if model.ValidEntry(decode(name)) {
				books = append(books, &book{name: decode(owner) + "/" + decode(name), dir: dir + "/" + name})
			}
		}
	}
	return books, nil
}

func join(root, name string) string {
	if root == "." {
		return name
	}
	return root + "/" + name
}
