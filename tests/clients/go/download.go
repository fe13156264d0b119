package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "rexd-client/registryv1"
)

// A download fails after this many attempts in a row that receive no data.
const fruitlessAttempts = 3

// codeName is the canonical name of an error's code: NOT_FOUND, where codes.Code says NotFound.
func codeName(err error) string {
	return code.Code(status.Code(err)).String()
}

// download streams a blob to a file, which is created only after the digest matches. When a stream fails or takes longer
// than attempt, download resumes after the last byte received. It returns the codes it resumed after.
func (c *caller) download(ctx context.Context, repository, digest string, attempt time.Duration) (resumedAfter []string, size int64, err error) {
	algorithm, expected, _ := strings.Cut(digest, ":")
	var hashed hash.Hash
	switch algorithm {
	case "sha256":
		hashed = sha256.New()
	case "sha512":
		hashed = sha512.New()
	default:
		return nil, 0, fmt.Errorf("%s: an unknown algorithm", digest)
	}
	path := c.path(repository)
	part, err := os.Create(path + ".part")
	if err != nil {
		return nil, 0, err
	}
	// After the rename there is nothing left to remove.
	defer os.Remove(part.Name())
	defer part.Close()

	output := io.MultiWriter(part, hashed)
	for fruitless := 0; ; {
		request := &pb.StreamBlobRequest{Registry: c.registry, Repository: repository, Digest: digest, Offset: size}
		received, err := c.attempt(ctx, request, output, attempt)
		size += received
		if err == nil {
			break
		}
		if fruitless++; received > 0 {
			fruitless = 0
		}
		again := status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded
		if !again || fruitless == fruitlessAttempts {
			return nil, size, err
		}
		resumedAfter = append(resumedAfter, codeName(err))
		_, wait := details(err)
		time.Sleep(max(wait, 100*time.Millisecond))
	}
	// The service verifies only blobs that are read as a whole; a resumed one has to be verified here.
	if hex.EncodeToString(hashed.Sum(nil)) != expected {
		return nil, size, fmt.Errorf("%s does not match %s", path, digest)
	}
	if err := part.Close(); err != nil {
		return nil, size, err
	}
	slices.Sort(resumedAfter)
	return slices.Compact(resumedAfter), size, os.Rename(part.Name(), path)
}

// attempt writes one stream's chunks to output and returns how many bytes they held. A nil error means that the stream is complete.
func (c *caller) attempt(ctx context.Context, request *pb.StreamBlobRequest, output io.Writer, timeout time.Duration) (received int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	// Also frees the stream when writing fails.
	defer cancel()
	stream, err := c.service.StreamBlob(ctx, request)
	if err != nil {
		return 0, err
	}
	for complete := false; ; {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !complete {
				return received, errors.New("the stream ended without a trailer")
			}
			return received, nil
		}
		if err != nil {
			return received, err
		}
		written, err := output.Write(message.GetChunk().GetData())
		received += int64(written)
		if err != nil {
			return received, err
		}
		complete = message.GetTrailer() != nil
	}
}
