package unilog

import (
	"fmt"
	"slices"
	"strings"
)

// Kind names some of a log's records: those of an object, or of one action of it.
type Kind struct {
	// Object is that of the records. Required.
	Object string
	// Action is that of the records: empty for every action.
	Action string
}

// ParseKind reads a kind as a person writes it: "order" or "order/create". An object
// with a slash in its name cannot be written so.
func ParseKind(s string) (Kind, error) {
	object, action, both := strings.Cut(s, "/")
	switch {
	case object == "", both && action == "", strings.Contains(action, "/"), !StorableText(s):
		return Kind{}, fmt.Errorf("unilog: %q is no kind of record: write OBJECT or OBJECT/ACTION, like order/create", s)
	case object == ReservedObject:
		return Kind{}, fmt.Errorf("unilog: the object of a kind %w", ErrReserved)
	}
	return Kind{object, action}, nil
}

func (k Kind) String() string {
	if k.Action == "" {
		return k.Object
	}
	return k.Object + "/" + k.Action
}

// Includes says whether a record is of the kind.
func (k Kind) Includes(r *Record) bool {
	return k.Object == r.Object && (k.Action == "" || k.Action == r.Action)
}

// IncludedIn says whether a record is of one of the kinds. No kinds at all are every
// kind.
func IncludedIn(kinds []Kind, r *Record) bool {
	return len(kinds) == 0 || slices.ContainsFunc(kinds, func(k Kind) bool { return k.Includes(r) })
}
