package replay

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// errMalformed is wrapped by the error of a line that cannot be read as a row; the lines after it can.
var errMalformed = errors.New("malformed row")

// reader reads rows into cells, one per column of the table. It returns io.EOF at the end.
type reader interface {
	next(row []cell) error
}

// maxLine is the longest line in bytes.
const maxLine = 1 << 20

// file is an open log; gzip is undone where there is any.
type file struct {
	io.Reader
	raw *os.File
}

func openFile(path string) (*file, error) {
	raw, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewReaderSize(raw, 256<<10)
	f := &file{Reader: buf, raw: raw}
	if magic, _ := buf.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(buf)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), raw.Close())
		}
		f.Reader = z
	}
	return f, nil
}

func (f *file) Close() error { return f.raw.Close() }

// newReader makes the reader of the map's format.
func (p *Program) newReader(in io.Reader) (reader, error) {
	m := p.source
	switch m.Format {
	case formatCSV, formatTSV:
		return newCSVReader(p, in)
	case formatNDJSON:
		return newNDJSONReader(p, in)
	case formatCombined:
		return newLineReader(p, in, combinedPattern, finishCombined)
	}
	return newLineReader(p, in, m.Pattern, nil)
}

// csvReader reads CSV and TSV.
type csvReader struct {
	csv   *csv.Reader
	at    []int // field of each column
	width int
}

func newCSVReader(p *Program, in io.Reader) (reader, error) {
	m := p.source
	r := &csvReader{csv: csv.NewReader(skipBOM(in))}
	r.csv.FieldsPerRecord = -1 // a row of another width is reported, it does not end the file
	r.csv.ReuseRecord = true
	r.csv.LazyQuotes = m.LazyQuotes
	if m.Format == formatTSV {
		r.csv.Comma = '\t'
	} else if m.Delimiter != "" {
		r.csv.Comma = []rune(m.Delimiter)[0]
	}
	header := []string(m.Columns)
	if len(header) == 0 {
		first, err := r.csv.Read()
		if err != nil {
			return nil, fmt.Errorf("header line: %w", err)
		}
		header = slices.Clone(first)
	}
	r.width = len(header)
	for _, name := range p.table.names {
		i := slices.Index(header, name)
		for _, alias := range m.Aliases[name] {
			if i >= 0 {
				break
			}
			i = slices.Index(header, alias)
		}
		if i < 0 {
			return nil, fmt.Errorf("no column %q; the file has %q", name, header)
		}
		r.at = append(r.at, i)
	}
	return r, nil
}

// skipBOM leaves out the byte order mark that spreadsheets write.
func skipBOM(in io.Reader) io.Reader {
	buf := bufio.NewReader(in)
	if mark, _ := buf.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = buf.Discard(3) // it was there a moment ago
	}
	return buf
}

func (r *csvReader) next(row []cell) error {
	record, err := r.csv.Read()
	if err != nil {
		if _, ok := errors.AsType[*csv.ParseError](err); ok {
			return fmt.Errorf("%w: quotes", errMalformed)
		}
		return err
	}
	if len(record) != r.width {
		return fmt.Errorf("%w: %d fields instead of %d", errMalformed, len(record), r.width)
	}
	for i, at := range r.at {
		row[i] = cell{record[at], true}
	}
	return nil
}

// lines reads lines and skips what is too long.
type lines struct {
	in *bufio.Reader
}

// next returns the next line that is not blank: blank ones are no rows, as in CSV.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.one()
		if err != nil || len(bytes.TrimSpace(line)) > 0 {
			return line, err
		}
	}
}

func (l *lines) one() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: longer than %d bytes", errMalformed, maxLine)
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// ndjsonReader reads one JSON object per line. A column is a key, or a path where there is no such key.
type ndjsonReader struct {
	lines lines
	names [][]string // the column's name and its aliases
	paths [][]jsonPath
	doc   map[string]json.RawMessage
}

func newNDJSONReader(p *Program, in io.Reader) (reader, error) {
	r := &ndjsonReader{lines: lines{bufio.NewReaderSize(skipBOM(in), maxLine)}}
	for _, name := range p.table.names {
		names := append([]string{name}, p.source.Aliases[name]...)
		var paths []jsonPath
		for _, n := range names {
			var path jsonPath
			if strings.ContainsAny(n, ".[") {
				var err error
				if path, err = parsePath(n); err != nil {
					return nil, err
				}
			}
			paths = append(paths, path)
		}
		r.names, r.paths = append(r.names, names), append(r.paths, paths)
	}
	return r, nil
}

func (r *ndjsonReader) next(row []cell) error {
	line, err := r.lines.next()
	if err != nil {
		return err
	}
	clear(r.doc)
	if err := json.Unmarshal(line, &r.doc); err != nil || r.doc == nil {
		return fmt.Errorf("%w: not a JSON object", errMalformed)
	}
	for i, names := range r.names {
		row[i] = cell{}
		for j, name := range names {
			raw, ok := r.doc[name]
			if !ok && r.paths[i][j] != nil {
				text, err := r.paths[i][j].get(string(line))
				if err == nil && text != "" {
					row[i] = cell{text, true}
					break
				}
			}
			if !ok {
				continue
			}
			if row[i], err = jsonCell(raw); err != nil {
				return fmt.Errorf("%w: %s", errMalformed, name)
			}
			break
		}
	}
	return nil
}

// jsonCell keeps numbers as they are written and takes null for nothing.
func jsonCell(raw json.RawMessage) (cell, error) {
	switch {
	case string(raw) == "null":
		return cell{}, nil
	case raw[0] == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return cell{s, true}, err
	}
	return cell{string(raw), true}, nil
}

// lineReader reads lines by a regular expression with named groups.
type lineReader struct {
	lines  lines
	re     *regexp.Regexp
	names  []string // of the table's columns
	finish func(group func(string) string, name string) (string, bool)
}

// combinedPattern is the combined format of web server logs. It is tolerant: the whole line may stand in quotes, quotes
// may stand unescaped inside of the request, and there may be more quoted fields than two.
const combinedPattern = `^"?(?P<client>\S+) (?P<ident>\S+) (?P<user>.*?) \[(?P<time>[^\]]+)\] ` +
	`"(?P<request>.*?)" (?P<status>\d{3}) (?P<bytes>\d+|-)(?P<rest>.*)$`

func newLineReader(
	p *Program, in io.Reader, pattern string, finish func(func(string) string, string) (string, bool),
) (reader, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	r := &lineReader{lines: lines{bufio.NewReaderSize(skipBOM(in), maxLine)}, re: re, names: p.table.names, finish: finish}
	for _, name := range r.names {
		if finish == nil && re.SubexpIndex(name) < 0 {
			return nil, fmt.Errorf("no column %q; the pattern has %q", name, re.SubexpNames()[1:])
		}
		if _, ok := combinedField(func(string) string { return "" }, name); finish != nil && re.SubexpIndex(name) < 0 && !ok {
			return nil, fmt.Errorf("no column %q in the combined format", name)
		}
	}
	return r, nil
}

func (r *lineReader) next(row []cell) error {
	line, err := r.lines.next()
	if err != nil {
		return err
	}
	text := string(line)
	at := r.re.FindStringSubmatchIndex(text)
	if at == nil {
		return fmt.Errorf("%w: does not match the pattern", errMalformed)
	}
	group := func(name string) string {
		i := r.re.SubexpIndex(name)
		if i < 0 || at[2*i] < 0 {
			return ""
		}
		return text[at[2*i]:at[2*i+1]]
	}
	for i, name := range r.names {
		s := group(name)
		if r.finish != nil {
			if derived, ok := r.finish(group, name); ok {
				s = derived
			}
			if s == "-" { // how these logs write "nothing"
				s = ""
			}
		}
		row[i] = cell{s, s != ""}
	}
	return nil
}

func finishCombined(group func(string) string, name string) (string, bool) {
	return combinedField(group, name)
}

// combinedField derives what the pattern has no group for: parts of the request, and the quoted fields at the end, of
// which the first is the referrer and the last the user agent.
func combinedField(group func(string) string, name string) (string, bool) {
	switch name {
	case "method":
		method, _, _ := strings.Cut(group("request"), " ")
		return method, true
	case "path":
		_, rest, _ := strings.Cut(group("request"), " ")
		if i := strings.LastIndex(rest, " HTTP/"); i >= 0 {
			rest = rest[:i]
		}
		return rest, true
	case "protocol":
		request := group("request")
		if i := strings.LastIndex(request, " HTTP/"); i >= 0 {
			return request[i+1:], true
		}
		return "", true
	case "referrer":
		fields := quotedFields(group("rest"))
		if len(fields) == 0 {
			return "", true
		}
		return fields[0], true
	case "ua":
		fields := quotedFields(group("rest"))
		if len(fields) < 2 {
			return "", true
		}
		return fields[len(fields)-1], true
	}
	return "", false
}

// quotedFields splits `"a" "b"`; a backslash escapes the character after it.
func quotedFields(s string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(s, `"`)
		if !ok {
			return out
		}
		end := 0
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(rest) {
			return out // a quote without its partner
		}
		out = append(out, rest[:end])
		s = rest[end+1:]
	}
}
