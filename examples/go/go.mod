module siphon.example/transactions

go 1.21

require (
	github.com/klauspost/compress v1.18.0
	github.com/nats-io/nats.go v1.41.0
	google.golang.org/protobuf v1.36.6
)
