// Package lvmtest keeps the contract of package lvm: a suite that says what it
// is, and a fake in memory that passes it as real LVM does.
package lvmtest
