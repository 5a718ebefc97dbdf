package catalog

// Limits of the catalog.
const (
	MaxKey  = 255 // bytes of a key
	MaxName = 255 // bytes of a name
)
