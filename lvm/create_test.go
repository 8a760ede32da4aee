package lvm

import "testing"

func TestAFrozenOriginIsToldByWhatLVMSays(t *testing.T) {
	for text, want := range map[string]bool{
		"  device-mapper: suspend ioctl on  (253:4) failed: Device or resource busy\n  Failed to suspend logical volume lls/ice.\n": true, // LVM 2.03.16
		"  device-mapper: suspend ioctl on  (253:4) failed: No such device\n":                                                       false,
		"  device-mapper: remove ioctl on  (253:4) failed: Device or resource busy\n":                                               false,
		"": false,
	} {
		if got := frozen(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
