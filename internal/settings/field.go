package settings

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
)

// Field describes one setting. Its JSON form is what GET /v1/options lists.
type Field struct {
	Name      string   `json:"name"` // in JSON: "memory_limit"
	Title     string   `json:"title"`
	Group     string   `json:"group,omitempty"`
	Help      string   `json:"help"`
	Type      string   `json:"type"` // string, integer or number
	Choices   []string `json:"choices,omitempty"`
	Default   string   `json:"default,omitempty"`   // as text
	Otherwise string   `json:"otherwise,omitempty"` // what happens by default, in words
	Min       *float64 `json:"min,omitempty"`
	Max       *float64 `json:"max,omitempty"`
	Multiple  float64  `json:"multiple,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Advanced  bool     `json:"advanced,omitempty"`
	Bare      string   `json:"-"` // value of a flag without one
	Local     bool     `json:"-"` // never taken from a client
	NameOnly  bool     `json:"-"` // a client may only give the name of a file
	Latents   bool     `json:"-"` // latents depend on it

	engines []string // that use it; nil: all do
	index   []int
}

// Fields returns all settings, in the order in which they are declared.
func Fields() []Field { return slices.Clone(fields()) }

// Remote returns the settings that a client of the HTTP API may give.
func Remote() []Field {
	return slices.DeleteFunc(Fields(), func(f Field) bool { return f.Local })
}

// Engines returns the values of Settings.Engine without EngineAuto.
func Engines() []string {
	i := slices.IndexFunc(fields(), func(f Field) bool { return f.Name == "engine" })
	return slices.DeleteFunc(slices.Clone(fields()[i].Choices), func(name string) bool { return name == EngineAuto })
}

var fields = sync.OnceValue(func() []Field { return describe(reflect.TypeFor[Settings](), nil, "", "") })

func describe(t reflect.Type, index []int, group, engines string) (list []Field) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		if sf.Anonymous {
			list = append(list, describe(sf.Type, at, sf.Tag.Get("group"), sf.Tag.Get("engines"))...)
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		f := Field{
			Name: name, Title: sf.Tag.Get("title"), Group: group, Help: sf.Tag.Get("help"), Type: typeOf(sf.Type),
			Bare: sf.Tag.Get("bare"), Default: sf.Tag.Get("default"), Otherwise: sf.Tag.Get("otherwise"), Unit: sf.Tag.Get("unit"),
			Min: bound(sf.Tag.Get("min")), Max: bound(sf.Tag.Get("max")),
			Advanced: sf.Tag.Get("level") == "advanced", Local: sf.Tag.Get("scope") == "local", NameOnly: sf.Tag.Get("scope") == "name", Latents: sf.Tag.Get("latents") != "no",
			index: at,
		}
		e, own := sf.Tag.Lookup("engines")
		if !own {
			e = engines
		}
		if e != "" {
			f.engines = strings.Split(e, ",")
		}
		if c := sf.Tag.Get("choices"); c != "" {
			f.Choices = strings.Split(c, ",")
		}
		if m := bound(sf.Tag.Get("multiple")); m != nil {
			f.Multiple = *m
		}
		if f.Title == "" {
			f.Title = strings.ToUpper(name[:1]) + strings.ReplaceAll(name[1:], "_", " ")
		}
		list = append(list, f)
	}
	return list
}

func bound(text string) *float64 {
	if text == "" {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic("settings: a tag is not a number: " + text) // a test reads all tags
	}
	return &v
}

func typeOf(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Time](), t.Kind() == reflect.Float64:
		return "number"
	case t == reflect.TypeFor[Size](), t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "integer"
	}
	return "string"
}

// value returns the field in s, which is addressable, and whether it was given.
func (f Field) value(s *Settings) (v reflect.Value, given bool) {
	v = reflect.ValueOf(s).Elem().FieldByIndex(f.index)
	return v, !v.IsZero()
}

// Text returns the value of the setting in s as text, or "" if it was not given.
func (f Field) Text(s Settings) string {
	v, given := f.value(&s)
	if !given {
		return ""
	}
	return fmt.Sprint(reflect.Indirect(v))
}

// Set parses text into the setting in s.
func (f Field) Set(s *Settings, text string) error {
	data := []byte(text)
	if f.Type == "string" || f.Unit == "s" || f.Unit == "bytes" { // times and sizes parse strings as well
		data, _ = json.Marshal(text) // a string is always valid
	}
	v, _ := f.value(s)
	to := reflect.New(v.Type())
	if err := json.Unmarshal(data, to.Interface()); err != nil {
		return fault.Field(f.Name, strconv.Quote(text), "is not a value of it", f.Help)
	}
	v.Set(to.Elem())
	return nil
}

// WithDefaults returns s with the defaults of the settings that were not given.
func (s Settings) WithDefaults() Settings {
	for _, f := range fields() {
		if _, given := f.value(&s); !given && f.Default != "" {
			if err := f.Set(&s, f.Default); err != nil {
				panic(err) // a test sets all defaults
			}
		}
	}
	return s
}

// Check returns an error of kind Usage for the first setting whose value is not
// one of its choices or not in its range. What depends on other settings or on
// the inputs is checked where it is used.
func (s Settings) Check() error {
	for _, f := range fields() {
		if err := f.check(&s); err != nil {
			return err
		}
	}
	return nil
}

func (f Field) check(s *Settings) error {
	v, given := f.value(s)
	if !given {
		return nil
	}
	v = reflect.Indirect(v)
	if v.Kind() == reflect.String {
		if f.Choices != nil && !slices.Contains(f.Choices, v.String()) {
			return fault.Field(f.Name, strconv.Quote(v.String()), "is not one of its values", "choose one of "+strings.Join(f.Choices, ", "))
		}
		return nil
	}
	n := v.Convert(reflect.TypeFor[float64]()).Float()
	text := fmt.Sprint(v)
	switch {
	case n != n, f.Min != nil && n < *f.Min, f.Max != nil && n > *f.Max:
		return fault.Field(f.Name, text, "is out of range", f.rangeHint())
	case f.Multiple > 0 && float64(int64(n/f.Multiple))*f.Multiple != n:
		return fault.Field(f.Name, text, fmt.Sprintf("is not a multiple of %g", f.Multiple), f.rangeHint())
	}
	return nil
}

func (f Field) rangeHint() string {
	number := func(v float64) string {
		if f.Unit == "bytes" {
			return Size(v).String()
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	switch {
	case f.Min != nil && f.Max != nil:
		what := "a value"
		if f.Multiple > 0 {
			what = fmt.Sprintf("a multiple of %g", f.Multiple)
		}
		return "choose " + what + " from " + number(*f.Min) + " to " + number(*f.Max)
	case f.Min != nil:
		return "the least is " + number(*f.Min)
	}
	return f.Help
}

// Unused returns the names of the settings in s that differ from their default but have no
// effect on an engine.
func (s Settings) Unused(engine string) (names []string) {
	for _, f := range fields() {
		if text := f.Text(s); f.engines != nil && !slices.Contains(f.engines, engine) && text != "" && text != f.Default {
			names = append(names, f.Name)
		}
	}
	return names
}

// CheckRemote returns an error if s has a setting that only a job on the own
// machine may have.
func (s Settings) CheckRemote() error {
	for _, f := range fields() {
		v, given := f.value(&s)
		if f.Local && given && v.String() != f.Default {
			return fault.Field(f.Name, "", "cannot be set for a job on a server", "leave it out")
		}
		if f.NameOnly && given && !plainName(v.String()) {
			return fault.Field(f.Name, strconv.Quote(v.String()), "is a path, which a job on a server cannot have", "write the name of a file that the workers have, without its folder and extension")
		}
	}
	return nil
}

// Identity returns the settings that the latents of a job depend on, as text by
// name: a job may only continue from the latents of another with the same ones.
func (s Settings) Identity() map[string]string {
	s = s.WithDefaults()
	id := map[string]string{}
	for _, f := range fields() {
		if f.Latents {
			id[f.Name] = f.Text(s)
		}
	}
	return id
}

// Schema returns the JSON Schema properties of the settings that a client of the
// HTTP API may give, by name.
func Schema() map[string]any {
	properties := map[string]any{}
	for _, f := range Remote() {
		properties[f.Name] = f.schema()
	}
	return properties
}

func (f Field) schema() map[string]any {
	description := f.Help
	if f.Otherwise != "" {
		description += " Default: " + f.Otherwise + "."
	}
	switch f.Unit {
	case "s":
		description += " A number of seconds, or a string such as \"1:30\"."
	case "bytes":
		description += " A number of bytes, or a string such as \"3GB\"."
	}
	s := map[string]any{"description": description, "title": f.Title, "type": f.Type}
	if f.Unit == "s" || f.Unit == "bytes" {
		s["type"] = []string{f.Type, "string"}
	}
	if f.Choices != nil {
		s["enum"] = f.Choices
	}
	if f.Min != nil {
		s["minimum"] = *f.Min
	}
	if f.Max != nil {
		s["maximum"] = *f.Max
	}
	if f.Multiple > 0 {
		s["multipleOf"] = f.Multiple
	}
	if f.Default != "" {
		s["default"] = f.Default
		if f.Type != "string" {
			s["default"] = *bound(f.Default)
		}
	}
	return s
}
