package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"
)

// junit writes one suite with a test case for each item. There are no times in
// it: the same input gives the same bytes.
func (w *Writer) junit(s Summary) error {
	suite := junit.Testsuite{Name: w.doc.Name, Time: "0"}
	if err := properties(&suite, s.Object); err != nil {
		return err
	}
	for _, it := range w.items {
		c := junit.Testcase{Classname: Printable(it.Case.Class), Name: Printable(it.Case.Name)}
		if it.Case.Failure != "" {
			c.Failure = &junit.Result{Message: Printable(it.Case.Failure), Type: "mismatch", Data: it.Case.Body}
		} else if it.Case.Skipped != "" {
			c.Skipped = &junit.Result{Message: Printable(it.Case.Skipped)}
		}
		suite.AddTestcase(c)
	}
	var all junit.Testsuites
	all.AddSuite(suite)
	all.Skipped = 0 // not an attribute of testsuites in Jenkins' schema; the suite has it
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := all.WriteXML(&b); err != nil {
		return err
	}
	_, err := b.WriteTo(w.w)
	return err
}

// properties gives suite the fields of a summary that are single values, in
// their order.
func properties(suite *junit.Testsuite, summary any) error {
	if summary == nil {
		return nil
	}
	data, err := json.Marshal(summary)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	depth, key := 0, ""
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch v := t.(type) {
		case json.Delim:
			depth += strings.Count("{[", v.String()) - strings.Count("}]", v.String())
			key = ""
			continue
		case string:
			if depth == 1 && key == "" {
				key = v
				continue
			}
		}
		if depth == 1 && t != nil {
			suite.AddProperty(key, fmt.Sprint(t))
		}
		key = ""
	}
}
