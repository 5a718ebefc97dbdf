package collect

import "testing"

func TestOneHighByteIsFoundAnywhere(t *testing.T) {
	for n := range 40 {
		text := make([]byte, n)
		for i := range text {
			text[i] = byte('a' + i%26)
		}
		if !allASCII([][]byte{text, nil, text}) {
			t.Fatalf("%q is not ASCII", text)
		}
		for i := range text {
			text[i] |= 0x80
			if allASCII([][]byte{[]byte("before"), text, []byte("after it")}) {
				t.Fatalf("%q is ASCII", text)
			}
			text[i] &^= 0x80
		}
	}
}
