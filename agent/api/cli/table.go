package cli

import (
	"strings"
	"unicode/utf8"
)

// Table is rows under a head. Columns whose head starts with ">" stand to the right.
type Table struct {
	Head []string
	Rows [][]string
}

// Add appends a row. An empty cell becomes a dash, so that columns can be counted.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(t.Head))
	for i := range row {
		row[i] = "-"
		if i < len(cells) && cells[i] != "" {
			row[i] = Clean(cells[i])
		}
	}
	t.Rows = append(t.Rows, row)
}

// Lines lays the table out, with two spaces between columns and none at the end of a line.
func (t *Table) Lines() []string {
	head := make([]string, len(t.Head))
	right := make([]bool, len(t.Head))
	for i, h := range t.Head {
		head[i], right[i] = strings.TrimPrefix(h, ">"), strings.HasPrefix(h, ">")
	}
	all := append([][]string{head}, t.Rows...)
	width := make([]int, len(head))
	for _, row := range all {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, 0, len(all))
	for _, row := range all {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}
