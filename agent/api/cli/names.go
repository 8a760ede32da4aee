package cli

// Fail is [Call.Report].
func (c *Call) Fail(err error) int { return c.Report(err) }

// Value is [Call.Flag].
func (c *Call) Value(name string) string { return c.Flag(name) }
