package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Compare names each field of a manifest that is not what the journal gives.
func Compare(claimed, computed *Manifest) []string {
	var out []string
	compare(&out, "", tree(claimed), tree(computed))
	return out
}

// tree takes the detour over JSON, so that a field that is added to a manifest is compared without being named here.
func tree(m *Manifest) any {
	var out any
	if b, err := json.Marshal(m); err == nil {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber() // not as a float, which would lose digits
		_ = dec.Decode(&out)
	}
	return out
}

func compare(out *[]string, path string, claimed, computed any) {
	a, okA := claimed.(map[string]any)
	b, okB := computed.(map[string]any)
	if okA && okB {
		keys := slices.Collect(maps.Keys(a))
		for k := range b {
			if _, ok := a[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			compare(out, strings.TrimPrefix(path+"."+k, "."), a[k], b[k])
		}
		return
	}
	if x, y := text(claimed), text(computed); x != y {
		*out = append(*out, fmt.Sprintf("%s: the manifest says %s, the journal %s", path, x, y))
	}
}

func text(v any) string {
	if v == nil {
		return "nothing"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
