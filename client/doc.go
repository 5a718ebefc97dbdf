// Package client sends events to a Milliard server: in columnar batches, with retries that cannot count twice, because a
// retry carries the same bytes and so the same ids, and with a back-off that keeps a crowd of senders from returning at
// the same instant.
//
// Goroutines: a Client owns its senders, from Start to Stop; Builder, Batch and SendBatch own none. The package knows the
// vocabulary of events and nothing of the server.
package client
