package policy

// Rules are those of one volume of a container in a pool.
func (c *Config) Rules(pool, container, volume string) Rules {
	p, _ := c.Pool(pool)
	return Rules{Limits: c.Limits, Raw: p.Raw}
}
