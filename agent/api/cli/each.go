package cli

import (
	"context"

	"lls/agent/api"
)

// each does one thing to every volume that was named, says what became of it, and goes on after a failure. Its answer for programs is a
// list; of one name it is that volume alone, unless list says that it is always one. The error is that of the first failure, and
// printed already if there was more than one name.
func (c *Call) each(ctx context.Context, list bool, do func(c *Call, name string) (api.Volume, []string, error)) error {
	if len(c.Operands) == 1 && !list {
		v, lines, err := do(c, c.Operand(0))
		if err != nil {
			return err
		}
		return c.Show(v, lines...)
	}
	done := []api.Volume{}
	var first error
	for _, name := range c.Operands {
		one := *c
		one.Operands = []string{name}
		v, lines, err := do(&one, name)
		if err != nil {
			one.Report(err)
			if first == nil {
				first = reported{err}
			}
			if ctx.Err() != nil || api.AsError(err).Code == api.Unreachable {
				break // the rest would fare no better
			}
			continue
		}
		done = append(done, v)
		if !c.json {
			_ = c.Show(nil, lines...)
		}
	}
	if c.json {
		if err := c.Show(done); err != nil {
			return err
		}
	}
	return first
}
