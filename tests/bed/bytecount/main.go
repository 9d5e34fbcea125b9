// Command bytecount runs a command behind a relay and writes how many bytes went through it:
//
//	bytecount OUT LISTEN_SOCKET TARGET_SOCKET COMMAND…
//
// The command must be told to dial LISTEN_SOCKET. OUT gets one line, `SENT RECEIVED`, in bytes as the
// command sees them. The exit status is the command's.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
)

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: bytecount OUT LISTEN_SOCKET TARGET_SOCKET COMMAND…")
	}
	out, listen, target := os.Args[1], os.Args[2], os.Args[3]
	_ = os.Remove(listen)
	listener, err := net.Listen("unix", listen)
	if err != nil {
		log.Fatal(err)
	}
	var sent, received atomic.Int64
	var open sync.WaitGroup
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { relay(client.(*net.UnixConn), target, &sent, &received) })
		}
	}()
	command := exec.Command(os.Args[4], os.Args[5:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	status := 0
	if err := command.Run(); err != nil {
		status = 1
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		} else {
			log.Print(err)
		}
	}
	_ = listener.Close()
	open.Wait()
	if err := os.WriteFile(out, fmt.Appendf(nil, "%d %d\n", sent.Load(), received.Load()), 0o644); err != nil {
		log.Fatal(err)
	}
	os.Exit(status)
}

// relay copies both ways and hands each side's end on to the other.
func relay(client *net.UnixConn, target string, sent, received *atomic.Int64) {
	defer client.Close()
	upstream, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: target, Net: "unix"})
	if err != nil {
		log.Print(err)
		return
	}
	defer upstream.Close()
	var both sync.WaitGroup
	both.Go(func() { pipe(upstream, client, sent) })
	both.Go(func() { pipe(client, upstream, received) })
	both.Wait()
}

func pipe(to, from *net.UnixConn, count *atomic.Int64) {
	// Plain read and write, so that the count is right at every moment.
	_, _ = io.Copy(counter{to, count}, struct{ io.Reader }{from})
	_ = to.CloseWrite()
}

type counter struct {
	io.Writer
	count *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.count.Add(int64(n))
	return n, err
}
