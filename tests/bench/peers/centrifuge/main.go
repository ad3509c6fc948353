// A WebSocket server on Centrifugo's engine that consumes one topic and publishes each record to the channel of its key:
// the peer of bench-centrifuge. In-memory engine, no history, no presence, no join messages, no logs: the fastest it offers.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/centrifugal/centrifuge"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "bootstrap addresses, separated by commas")
	topic := flag.String("topic", "bench", "topic to read, from its end on")
	suffix := flag.String("suffix", ".t", "a record with key K goes to channel K + this")
	flag.Parse()
	if err := run(strings.Split(*brokers, ","), *topic, *suffix); err != nil {
		log.Fatal("error: ", err)
	}
}

func run(brokers []string, topic, suffix string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: ""}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return err
	}
	defer func() { _ = node.Shutdown(context.Background()) }()

	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.ClientID("bench-centrifuge"),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return err
	}

	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin: func(*http.Request) bool { return true },
	})
	http.Handle("/connection/websocket", handler)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, nil) }()
	// The same line as our own processes print.
	fmt.Printf("{\"listening\":{\"ws\":%q}}\n", listener.Addr())

	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Printf("failed to read %s/%d: %v", topic, partition, err)
		})
		fetches.EachRecord(func(record *kgo.Record) {
			if _, err := node.Publish(string(record.Key)+suffix, record.Value); err != nil {
				log.Printf("failed to publish: %v", err)
			}
		})
	}
}
