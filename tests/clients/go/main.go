// A caller of rexd in Go: grpc-go, with the code that protoc-gen-go and protoc-gen-go-grpc generate from the one proto.
//
//	GOBIN=$PWD/bin go install tool
//	PATH=$PWD/bin:$PATH go generate
//	go run . --target dns:///127.0.0.1:50051 --registry registry.test
package main

//go:generate protoc -I ../../../proto --go_out=. --go-grpc_out=. --go_opt=module=rexd-client,Mrex/registry/v1/registry.proto=rexd-client/registryv1 --go-grpc_opt=module=rexd-client,Mrex/registry/v1/registry.proto=rexd-client/registryv1 rex/registry/v1/registry.proto

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "rexd-client/registryv1"
)

const (
	callTimeout    = 5 * time.Second
	attemptTimeout = 30 * time.Second

	// gRPC connections are long-lived. Without round_robin, all calls go to the first replica in the DNS response.
	// All calls are read-only and safe to retry. gRPC does not retry a stream that has begun; download resumes it.
	serviceConfig = `{
		"loadBalancingConfig": [{"round_robin": {}}],
		"methodConfig": [{
			"name": [{"service": "rex.registry.v1.RegistryService"}],
			"retryPolicy": {
				"maxAttempts": 4,
				"initialBackoff": "0.1s",
				"maxBackoff": "2s",
				"backoffMultiplier": 2,
				"retryableStatusCodes": ["UNAVAILABLE"]
			}
		}]
	}`
)

func connect(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// The content of a manifest alone can reach gRPC's default limit of 4 MiB; the response has other fields too.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)),
		// A stream receives at most one window per round trip: the default, 64 KiB, gives 3 MB/s at 20 ms. Setting these turns
		// grpc-go's own probe off, so that the window is this large from the first byte.
		grpc.WithInitialWindowSize(4<<20),
		grpc.WithInitialConnWindowSize(8<<20))
}

// details returns the reason of a failed call and the delay before a retry, where the status has them.
func details(err error) (reason string, wait time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			wait = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, wait
}

// caller makes the calls to one registry.
type caller struct {
	service   pb.RegistryServiceClient
	registry  string
	directory string
}

// tags returns all tags, and the number of pages.
func (c *caller) tags(ctx context.Context, repository string) (found []string, pages int, err error) {
	request := &pb.ListTagsRequest{Registry: c.registry, Repository: repository, PageSize: 100}
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := c.service.ListTags(call, request)
		cancel()
		if err != nil {
			return nil, 0, err
		}
		found = append(found, page.GetTags()...)
		pages++
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return found, pages, nil
		}
	}
}

func (c *caller) manifest(ctx context.Context, repository, reference, platform string) (*pb.GetManifestResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.service.GetManifest(ctx, &pb.GetManifestRequest{
		Registry: c.registry, Repository: repository, Reference: reference, Platform: platform,
	})
}

func (c *caller) path(repository string) string {
	return filepath.Join(c.directory, strings.ReplaceAll(repository, "/", "-")+".blob")
}

func show(facts map[string]any) {
	line, err := json.Marshal(facts) // sorts the keys
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func showManifest(response *pb.GetManifestResponse) {
	layers := []map[string]any{}
	for _, layer := range response.GetImageManifest().GetLayers() {
		layers = append(layers, map[string]any{"digest": layer.GetDigest(), "size": layer.GetSize()})
	}
	show(map[string]any{
		"event": "manifest", "digest": response.GetContentDescriptor().GetDigest(), "index": response.GetIndex().GetDigest(), "layers": layers,
	})
}

// react makes a call. If it fails, it prints the error and the reaction, and retries if the status has a RetryInfo.
func react(call func() error) error {
	err := call()
	if _, ours := status.FromError(err); err == nil || !ours {
		return err
	}
	// The code's canonical name, as the other languages print it.
	code := codeName(err)
	reason, wait := details(err)
	wait = time.Duration(math.Ceil(wait.Seconds())) * time.Second
	reaction := "gave up"
	switch {
	case code == "DATA_LOSS":
		reaction = "discarded file"
	case wait > 0:
		reaction = fmt.Sprintf("retry after %.0f s", wait.Seconds())
	}
	show(map[string]any{"event": "failure", "code": code, "reason": reason, "reaction": reaction})
	if wait == 0 {
		return nil
	}
	time.Sleep(wait)
	return call()
}

func (c *caller) run(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	pong, err := c.service.Ping(call, &pb.PingRequest{Registry: c.registry})
	cancel()
	if err != nil {
		return err
	}
	show(map[string]any{
		"event": "ping", "api_version": pong.GetApiVersion(), "auth_scheme": pong.GetAuthScheme().String(), "registry": pong.GetRegistry(),
	})

	tags, pages, err := c.tags(ctx, "team/app")
	if err != nil {
		return err
	}
	show(map[string]any{"event": "tags", "pages": pages, "tags": tags})

	image, err := c.manifest(ctx, "team/app", "v1", "linux/arm64")
	if err != nil {
		return err
	}
	showManifest(image)
	flaky, err := c.manifest(ctx, "team/flaky", "v1", "linux/amd64")
	if err != nil {
		return err
	}
	showManifest(flaky)
	digest := image.GetImageManifest().GetLayers()[0].GetDigest()

	for _, blob := range []struct {
		repository string
		timeout    time.Duration
	}{{"team/app", attemptTimeout}, {"team/stall", 2 * time.Second}} {
		resumedAfter, size, err := c.download(ctx, blob.repository, digest, blob.timeout)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(c.path(blob.repository))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		show(map[string]any{
			"event": "blob", "bytes": size, "repository": blob.repository, "resumed_after": resumedAfter, "sha256": hex.EncodeToString(sum[:]),
		})
	}

	manifest := func(repository, reference, platform string) func() error {
		return func() error {
			response, err := c.manifest(ctx, repository, reference, platform)
			if err == nil {
				showManifest(response)
			}
			return err
		}
	}
	corrupt := func() error {
		_, _, err := c.download(ctx, "team/corrupt", digest, attemptTimeout)
		return err
	}
	for _, call := range []func() error{
		manifest("team/app", "absent", ""), manifest("team/private", "v1", ""), corrupt, manifest("team/limited", "v1", "linux/amd64"),
	} {
		if err := react(call); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	target := flag.String("target", "dns:///127.0.0.1:50051", "the service")
	c := &caller{}
	flag.StringVar(&c.registry, "registry", "registry.test", "the registry, as in an image reference")
	flag.StringVar(&c.directory, "directory", ".", "where blobs are written")
	flag.Parse()
	connection, err := connect(*target)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	c.service = pb.NewRegistryServiceClient(connection)
	if err := c.run(context.Background()); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}
