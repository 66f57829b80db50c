// Prints transactions as a whole: collects their events by commit LSN, from whatever subjects they come on, until a watermark
// says that nothing is missing. Rows of snapshots are no transactions, and are counted only. Where it comes to something that
// it does not know it stops, as siphon.proto asks all consumers to do.
//
//	protoc --proto_path=../../proto --go_out=. --go_opt=Msiphon.proto=siphon.example/transactions/wire \
//		--go_opt=module=siphon.example/transactions siphon.proto
//	go mod init siphon.example/transactions && go mod tidy
//	go run . nats://127.0.0.1:4222 main
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"siphon.example/transactions/wire"
)

// One event, with what its package says of it.
type change struct {
	table string
	event *wire.Event
}

// What is read, and not yet known to be complete.
type reader struct {
	held         string // what subjects of the publisher's own begin with
	decoder      *zstd.Decoder
	parts        map[string][][]byte // by subject
	transactions map[uint64][]change // by commit LSN
	rows         int                 // of snapshots
}

// body puts together what was larger than a message may be. nil: it is not complete yet.
func (r *reader) body(message jetstream.Msg) ([]byte, error) {
	body := message.Data()
	switch encoding := message.Headers().Get("Siphon-Encoding"); encoding {
	case "none":
	case "zstd":
		var err error
		if body, err = r.decoder.DecodeAll(body, []byte{}); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("encoding %s is not known to this program", encoding)
	}
	number, total := 1, 1
	if part := message.Headers().Get("Siphon-Part"); part != "" {
		if _, err := fmt.Sscanf(part, "%d/%d", &number, &total); err != nil {
			return nil, err
		}
	}
	collected := r.parts[message.Subject()]
	delete(r.parts, message.Subject())
	if number == 1 {
		collected = nil
	}
	if len(collected) != number-1 {
		return nil, nil // the decoder died in the middle; it comes again
	}
	collected = append(collected, body)
	if number < total {
		r.parts[message.Subject()] = collected
		return nil, nil
	}
	return bytes.Join(collected, nil), nil
}

func (r *reader) read(message jetstream.Msg) error {
	kind := message.Headers().Get("Siphon-Kind")
	if kind == "history" {
		// What comes does not continue what came: what is not complete by now never will be.
		r.transactions = map[uint64][]change{}
		return nil
	}
	if kind != "changes" && kind != "snapshot" && kind != "watermark" {
		return nil // markers, messages, and kinds that are not known
	}
	if strings.HasPrefix(message.Subject(), r.held) {
		return nil // of an earlier publisher, changes on their way: they come behind their table's snapshot
	}
	body, err := r.body(message)
	if body == nil || err != nil {
		return err
	}
	if kind == "watermark" {
		watermark := &wire.Watermark{}
		if err := proto.Unmarshal(body, watermark); err != nil {
			return err
		}
		r.complete(watermark)
		return nil
	}
	pack := &wire.Package{}
	if err := proto.Unmarshal(body, pack); err != nil {
		return err
	}
	for _, event := range pack.Events {
		if _, known := wire.Operation_name[int32(event.Operation)]; !known || event.Operation == wire.Operation_OPERATION_UNSPECIFIED {
			return fmt.Errorf("operation %d is not known to this program", event.Operation)
		}
		for _, values := range [][]*wire.Value{event.Values, event.OldValues} {
			for _, value := range values {
				if value.Kind == nil {
					return errors.New("a value is of a kind that is not known to this program")
				}
			}
		}
		if event.Operation == wire.Operation_SNAPSHOT {
			r.rows++
			continue
		}
		r.transactions[event.CommitLsn] = append(r.transactions[event.CommitLsn], change{pack.Schema + "." + pack.Table, event})
	}
	return nil
}

// complete prints the transactions that a watermark speaks for, in the order in which they committed. Where it names tables
// whose changes are still held, a transaction may have some of them, and waits.
func (r *reader) complete(watermark *wire.Watermark) {
	if len(watermark.HeldTables) > 0 {
		return
	}
	var commits []uint64
	for lsn := range r.transactions {
		if lsn <= watermark.CommitLsn {
			commits = append(commits, lsn)
		}
	}
	sort.Slice(commits, func(i, j int) bool { return commits[i] < commits[j] })
	for _, lsn := range commits {
		changes := r.transactions[lsn]
		delete(r.transactions, lsn)
		sort.SliceStable(changes, func(i, j int) bool { return changes[i].event.Ordinal < changes[j].event.Ordinal })
		fmt.Printf("transaction %d, commit %016X\n", changes[0].event.Xid, lsn)
		for _, c := range changes {
			fmt.Printf("  %s %s", c.event.Operation, c.table)
			for _, value := range c.event.Values {
				fmt.Printf(" {%v}", value)
			}
			fmt.Println()
		}
	}
}

func run(url, application string, stopAtEnd bool) error {
	connection, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	name := "siphon_" + strings.ReplaceAll(application, ".", "_")
	consumer, err := stream.OrderedConsumer(context.Background(), name, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"siphon." + application + ".>"},
	})
	if err != nil {
		return err
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		return err
	}
	r := &reader{held: "siphon." + application + ".held.", decoder: decoder, parts: map[string][][]byte{}, transactions: map[uint64][]change{}}
	for {
		message, err := consumer.Next(jetstream.FetchMaxWait(time.Second))
		if errors.Is(err, nats.ErrTimeout) {
			if stopAtEnd {
				break
			}
			continue
		}
		if err != nil {
			return err
		}
		metadata, err := message.Metadata()
		if err != nil {
			return err
		}
		if err := r.read(message); err != nil {
			return fmt.Errorf("message %d: %w", metadata.Sequence.Stream, err)
		}
		if stopAtEnd && metadata.NumPending == 0 {
			break
		}
	}
	fmt.Printf("%d rows of snapshots\n", r.rows)
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: transactions URL APPLICATION [--stop-at-end]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], len(os.Args) > 3 && os.Args[3] == "--stop-at-end"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
