package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/lipstream/lipstream/internal/fault"
)

// completeCmd answers the completion scripts: it prints how to complete a word.
type completeCmd struct {
	// The first word is the one to complete, with a colon in front, so that it is
	// never empty: PowerShell drops empty arguments. The words before it follow.
	Words []string `arg:"" optional:"" passthrough:"all"`
}

// Run implements lipstream complete.
func (x *completeCmd) Run(k *kong.Kong, c *console) error {
	if len(x.Words) == 0 {
		return nil
	}
	found := complete(k.Model.Node, x.Words[1:], strings.TrimPrefix(x.Words[0], ":"))
	var b strings.Builder
	fmt.Fprintln(&b, found.kind)
	for _, w := range found.words {
		fmt.Fprintf(&b, "%s\t%s\n", w.text, w.help)
	}
	_, err := c.Out.Write([]byte(b.String()))
	return fault.Output.Wrap("print the completions", err)
}

// completion is how a word can be completed.
type completion struct {
	kind  string // words, files or folders
	words []completionWord
}

type completionWord struct{ text, help string }

// complete returns how to complete current, the word after the given ones.
func complete(root *kong.Node, before []string, current string) completion {
	before, current, joined := joinEquals(before, current)
	node, pending, flags, positionals := root, (*kong.Flag)(nil), true, 0
	for _, w := range before {
		switch {
		case pending != nil:
			pending = nil
		case flags && w == "--":
			flags = false
		case flags && strings.HasPrefix(w, "-"):
			if f := findFlag(node, w); f != nil && takesValue(f) && !strings.Contains(w, "=") {
				pending = f
			}
		default:
			if child := findChild(node, w); child != nil {
				node = child
			} else {
				positionals++
			}
		}
	}
	name, value, hasValue := strings.Cut(current, "=")
	switch {
	case pending != nil:
		return completeValue(pending, current, "")
	case flags && hasValue && strings.HasPrefix(name, "--"):
		f := findFlag(node, name)
		if f == nil {
			return completion{kind: "words"}
		}
		prefix := name + "="
		if joined {
			prefix = "" // the shell replaces what follows the equals sign only
		}
		return completeValue(f, value, prefix)
	case flags && strings.HasPrefix(current, "-"):
		return completeFlag(node, current)
	case len(node.Children) > 0:
		return completeCommand(node, current)
	case positionals < len(node.Positional) || len(node.Positional) > 0 && node.Positional[len(node.Positional)-1].IsCumulative():
		p := node.Positional[min(positionals, len(node.Positional)-1)]
		return wordsWith(choicesOf(p.Tag.Get("placeholder")), current, "")
	}
	return completion{kind: "words"}
}

// joinEquals joins "--flag", "=" and "value", because bash makes three words of
// --flag=value, and more of left=voice. joined says whether the last word was such a value.
func joinEquals(before []string, current string) (words []string, last string, joined bool) {
	all := append(slices.Clone(before), current)
	for i := 0; i < len(all); i++ {
		if n := len(words); n > 0 && all[i] == "=" {
			words[n-1] += "="
			if i+1 < len(all) {
				i++
				words[n-1] += all[i]
			}
			joined = i == len(all)-1
			continue
		}
		words = append(words, all[i])
	}
	return words[:len(words)-1], words[len(words)-1], joined
}

func completeCommand(node *kong.Node, current string) completion {
	found := completion{kind: "words"}
	for _, child := range node.Children {
		if !child.Hidden && strings.HasPrefix(child.Name, current) {
			found.words = append(found.words, completionWord{child.Name, firstSentence(child.Help)})
		}
	}
	return found
}

func completeFlag(node *kong.Node, current string) completion {
	found := completion{kind: "words"}
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if name := "--" + f.Name; !f.Hidden && strings.HasPrefix(name, current) {
				found.words = append(found.words, completionWord{name, firstSentence(f.Help)})
			}
		}
	}
	return found
}

// completeValue completes the value of a flag by its placeholder, which is either a
// list of choices or a word that says what kind of value it is.
func completeValue(f *kong.Flag, current, prefix string) completion {
	if !takesValue(f) {
		return completion{kind: "words"}
	}
	switch place := f.FormatPlaceHolder(); {
	case strings.HasPrefix(place, "FILE"), place == "FACE", place == "VOICE", place == "OUT":
		return completion{kind: "files"}
	case place == "WHO=VOICE":
		return completeSpeaker(current, prefix)
	case place == "FOLDER", place == "COMFYUI":
		return completion{kind: "folders"}
	default:
		return wordsWith(choicesOf(place), current, prefix)
	}
}

// completeSpeaker completes a face and a file: first the face with an equals sign, after
// which the shell completes file names.
func completeSpeaker(current, prefix string) completion {
	if strings.Contains(current, "=") {
		return completion{kind: "files"}
	}
	var faces []string
	for _, f := range []string{"largest", "center", "left", "right"} {
		faces = append(faces, f+"=")
	}
	return wordsWith(faces, current, prefix)
}

func wordsWith(choices []string, current, prefix string) completion {
	found := completion{kind: "words"}
	for _, c := range choices {
		if strings.HasPrefix(c, current) {
			found.words = append(found.words, completionWord{text: prefix + c})
		}
	}
	return found
}

// choicesOf returns the choices in a placeholder such as auto|never|TIME, without the
// words that stand for other values.
func choicesOf(placeholder string) []string {
	return slices.DeleteFunc(strings.Split(placeholder, "|"), func(c string) bool {
		return c == "" || strings.ToUpper(c) == c && strings.ToLower(c) != c || strings.Contains(c, "://")
	})
}

// findFlag returns the flag that a word names, in node or in the nodes above it.
func findFlag(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func findChild(node *kong.Node, name string) *kong.Node {
	i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return node.Children[i]
}

func takesValue(f *kong.Flag) bool { return !f.IsBool() && !f.IsCounter() }

// firstSentence returns the first sentence of a help text, without its full stop.
func firstSentence(help string) string {
	first, _, _ := strings.Cut(oneLine(help, len(help)), ". ")
	return strings.TrimSuffix(first, ".")
}
