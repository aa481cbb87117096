package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fruit is a report with everything that a report may have.
func fruit(f Format, color bool, w *bytes.Buffer) error {
	out := NewWriter(w, f, color, Doc{Name: "fruit stand", List: "fruits", Columns: []Column{
		{Key: "name", Title: "NAME", Text: true},
		{Key: "state", Title: "STATE", Text: true},
		{Key: "mass", Title: "MASS"},
		{Key: "note"},
	}})
	type object struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	for _, it := range []Item{
		{Section: "here", Cells: []any{"apple", Mark{"ok", Good}, Size(2048), "a, b"}, Object: object{"fruit", "<apple>"},
			Case: Case{Class: "fruit", Name: "apple"}},
		{Section: "here", Cells: []any{"pear|\n", Mark{"BAD", Bad}, Size(12), "\"q\""}, Object: object{"fruit", "pear|\n"},
			Notes: []string{"pear: a worm"}, Case: Case{Class: "fruit", Name: "pear|\n", Failure: "a\nworm", Body: "in ]]> it\n"}},
		{Section: "there", Cells: []any{"fig", Mark{"gone", Weak}}, Object: object{"fruit", "fig"},
			Case: Case{Class: "fruit", Name: "fig", Skipped: "gone"}},
	} {
		if err := out.Add(it); err != nil {
			return err
		}
	}
	return out.Close(Summary{Object: struct {
		Type  string         `json:"type"`
		Total int            `json:"total"`
		By    map[string]int `json:"by"`
		None  *int           `json:"none"`
		Whole bool           `json:"whole"`
	}{"summary", 3, map[string]int{"total": 1}, nil, true}, Lines: []string{"3 fruits"}})
}

// TestWriter: the same report in every format.
func TestWriter(t *testing.T) {
	want := map[Format]string{
		Table: `here
NAME     STATE     MASS
apple    ok     2.0 KiB
pear|\n  BAD       12 B

pear: a worm

there
NAME  STATE  MASS
fig   gone

3 fruits
`,
		Markdown: `## here

| NAME | STATE | MASS |
| --- | --- | ---:|
| apple | ok | 2.0 KiB |
| pear\|\n | BAD | 12 B |

` + "```\npear: a worm\n```\n" + `
## there

| NAME | STATE | MASS |
| --- | --- | ---:|
| fig | gone |  |

` + "```\n3 fruits\n```\n",
		CSV: "name,state,mass,note\napple,ok,2048,\"a, b\"\n\"pear|\n\",BAD,12,\"\"\"q\"\"\"\nfig,gone,,\n",
		JSONL: `{"type":"fruit","name":"<apple>"}
{"type":"fruit","name":"pear|\n"}
{"type":"fruit","name":"fig"}
{"type":"summary","total":3,"by":{"total":1},"none":null,"whole":true}
`,
		JSON: `{
  "fruits": [
    {
      "type": "fruit",
      "name": "<apple>"
    },
    {
      "type": "fruit",
      "name": "pear|\n"
    },
    {
      "type": "fruit",
      "name": "fig"
    }
  ],
  "type": "summary",
  "total": 3,
  "by": {
    "total": 1
  },
  "none": null,
  "whole": true
}
`,
		JUnit: `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1">
	<testsuite name="fruit stand" tests="3" failures="1" errors="0" id="0" skipped="1" time="0">
		<properties>
			<property name="type" value="summary"></property>
			<property name="total" value="3"></property>
			<property name="whole" value="true"></property>
		</properties>
		<testcase name="apple" classname="fruit"></testcase>
		<testcase name="pear|\n" classname="fruit">
			<failure message="a\nworm" type="mismatch"><![CDATA[in ]]]]><![CDATA[> it
]]></failure>
		</testcase>
		<testcase name="fig" classname="fruit">
			<skipped message="gone"></skipped>
		</testcase>
	</testsuite>
</testsuites>
`,
	}
	for _, name := range Formats {
		f := Format(name)
		var b bytes.Buffer
		if err := fruit(f, false, &b); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want[f], b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", f, d)
		}
		var plain, colored bytes.Buffer
		plain.Write(b.Bytes())
		if err := fruit(f, true, &colored); err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(colored.String(), "\x1b[31mBAD\x1b[0m"); has != (f == Table) {
			t.Errorf("%s has colours: %v", f, has)
		}
		stripped := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[2m", "", "\x1b[0m", "").Replace(colored.String())
		if d := cmp.Diff(plain.String(), stripped); d != "" {
			t.Errorf("%s: colours change more than colours:\n%s", f, d)
		}
	}
}

// TestWriterEmpty: a report without a result is still one.
func TestWriterEmpty(t *testing.T) {
	for f, want := range map[Format]string{Table: "", Markdown: "", JSONL: "", CSV: "a\n", JSON: "{\n  \"list\": []\n}\n"} {
		var b bytes.Buffer
		w := NewWriter(&b, f, false, Doc{Name: "n", List: "list", Columns: []Column{{Key: "a", Title: "A"}}})
		if err := w.Close(Summary{}); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v, want %q", f, b.String(), err, want)
		}
	}
}

// TestWriterAnyText: whatever a name or a reason holds, what is written can be
// read, and holds it.
func TestWriterAnyText(t *testing.T) {
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune{0, '\n', '\r', '"', ',', '|', '<', '&', ']', '>', '\ufffe', '\x1b'})))
	rapid.Check(t, func(t *rapid.T) {
		s := text.Draw(t, "text")
		for _, name := range Formats {
			var b bytes.Buffer
			w := NewWriter(&b, Format(name), false, Doc{Name: "n", List: "l", Columns: []Column{{Key: "s", Title: "S", Text: true}, {Key: "n", Title: "N"}}})
			err := w.Add(Item{Cells: []any{s, 7}, Object: map[string]string{"s": s}, Case: Case{Class: "c", Name: s, Failure: s, Body: Printable(s) + "\n"}})
			if err == nil {
				err = w.Close(Summary{})
			}
			if err != nil {
				t.Fatal(err)
			}
			switch Format(name) {
			case CSV:
				rows, err := csv.NewReader(&b).ReadAll()
				// A reader takes CR LF in a field for LF.
				if err != nil || len(rows) != 2 || rows[1][0] != strings.ReplaceAll(s, "\r\n", "\n") || rows[1][1] != "7" {
					t.Fatalf("csv: %q, %v", rows, err)
				}
			case JSON, JSONL:
				if !json.Valid(b.Bytes()) {
					t.Fatalf("%s: %s", name, b.String())
				}
			case JUnit:
				d := xml.NewDecoder(&b)
				for {
					if _, err := d.Token(); err != nil {
						if err.Error() != "EOF" {
							t.Fatalf("junit: %v", err)
						}
						break
					}
				}
			case Table:
				if strings.Count(b.String(), "\n") != 2 {
					t.Fatalf("table: %q", b.String())
				}
			}
		}
	})
}

// TestJUnitSchema holds what is written against a schema, by another program.
func TestJUnitSchema(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not there: install Debian's libxml2-utils")
	}
	var b bytes.Buffer
	if err := fruit(JUnit, false, &b); err != nil {
		t.Fatal(err)
	}
	check := func(doc string) error {
		cmd := exec.Command(xmllint, "--noout", "--schema", "testdata/junit.xsd", "-")
		cmd.Stdin = strings.NewReader(doc)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	if err := check(b.String()); err != nil {
		t.Error(err)
	}
	for old, new := range map[string]string{
		`tests="3" failures="1" errors`: `failures="1" errors`,
		`time="0"`:                      `time="1.5s"`,
		`<skipped message="gone">`:      `<skipped>`,
		`name="total"`:                  `name="type"`,
	} {
		doc := strings.Replace(b.String(), old, new, 1)
		if doc == b.String() {
			t.Fatalf("no %s", old)
		}
		if check(doc) == nil {
			t.Errorf("the schema takes %s for %s", new, old)
		}
	}
}
