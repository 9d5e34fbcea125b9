// Command frontend writes what BuildKit's own Dockerfile frontend makes of each case of a corpus, for
// a builder that is only pretended: nothing is executed and nobody is asked.
//
//	go run ./frontend -images ../conformance/llb/images.json CORPUS
//	go run ./frontend -images ../conformance/llb/images.json -bench 5 CORPUS
//
// A corpus is a directory of cases in the form of ../conformance/llb; the directory "expected" of each
// case is written anew. A corpus elsewhere is held against with BK_SYNC_TEST_CORPUS=CORPUS cargo test
// conformance_llb. With -bench it prints the frontend's fastest time for each case instead.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const session = "conformance"

// settings are the keys of case.json.
type settings struct {
	File            string            `json:"file"`
	Target          string            `json:"target"`
	Platforms       []string          `json:"platforms"`
	BuildArgs       map[string]string `json:"build_args"`
	Labels          map[string]string `json:"labels"`
	Pull            bool              `json:"pull"`
	BuildContexts   map[string]string `json:"build_contexts"`
	NoCache         bool              `json:"no_cache"`
	NoCacheFilter   []string          `json:"no_cache_filter"`
	Network         string            `json:"network"`
	AddHosts        []string          `json:"add_hosts"`
	Ulimits         []string          `json:"ulimits"`
	ShmSize         any               `json:"shm_size"`
	CgroupParent    string            `json:"cgroup_parent"`
	Epoch           any               `json:"source_date_epoch"`
	Attrs           map[string]string `json:"frontend_attrs"`
	WorkerPlatforms []string          `json:"worker_platforms"`
	UnsupportedCaps []string          `json:"unsupported_caps"`
	SourceMetadata  map[string]struct {
		LastModified *time.Time `json:"last_modified"`
	} `json:"source_metadata"`
	Check bool `json:"check"`
}

type image struct {
	Digest    string                     `json:"digest"`
	Platforms map[string]json.RawMessage `json:"platforms"`
	Error     string                     `json:"error"`
}

func text(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case float64:
		return strconv.FormatInt(int64(value), 10)
	}
	return ""
}

// attributes are those that buildx makes of the flags; directories are the local sources by name.
func (s *settings) attributes(directories map[string]string) map[string]string {
	attrs := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	if s.File != "" && s.File != "Dockerfile" {
		set("filename", s.File)
	}
	set("target", s.Target)
	set("platform", strings.Join(s.Platforms, ","))
	for name, value := range s.BuildArgs {
		attrs["build-arg:"+name] = value
	}
	for name, value := range s.Labels {
		attrs["label:"+name] = value
	}
	if s.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	for name, value := range s.BuildContexts {
		if strings.HasPrefix(value, "../") {
			local := name
			if local == "context" || local == "dockerfile" {
				local = "_" + local
			}
			directories[local] = value
			value = "local:" + local
		}
		attrs["context:"+name] = value
	}
	if s.NoCache {
		attrs["no-cache"] = ""
	}
	set("no-cache", strings.Join(s.NoCacheFilter, ","))
	set("force-network-mode", s.Network)
	set("add-hosts", strings.Join(s.AddHosts, ","))
	set("ulimit", strings.Join(s.Ulimits, ","))
	if size := text(s.ShmSize); size != "" {
		bytes, err := units.RAMInBytes(size)
		if err != nil {
			panic(err)
		}
		set("shm-size", strconv.FormatInt(bytes, 10))
	}
	set("cgroup-parent", s.CgroupParent)
	set("build-arg:SOURCE_DATE_EPOCH", text(s.Epoch))
	maps.Copy(attrs, s.Attrs)
	return attrs
}

// fake is a builder that is only pretended.
type fake struct {
	mu          sync.Mutex
	settings    *settings
	attrs       map[string]string
	dir         string
	directories map[string]string
	images      map[string]image
	workers     []ocispecs.Platform
	solves      []*ref
	resolves    []map[string]string
	warnings    []map[string]any
}

type ref struct {
	def  *pb.Definition
	read func(name string) ([]byte, error)
	eval bool
}

func (r *ref) ToState() (llb.State, error)    { return llb.Scratch(), errors.New("no state") }
func (r *ref) Evaluate(context.Context) error { return nil }
func (r *ref) StatFile(context.Context, client.StatRequest) (*fstypes.Stat, error) {
	return nil, errors.New("not found")
}
func (r *ref) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errors.New("not found")
}
func (r *ref) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	data, err := r.read(req.Filename)
	if err == nil && req.Range != nil && req.Range.Length < len(data) {
		data = data[:req.Range.Length]
	}
	return data, err
}

func (f *fake) BuildOpts() client.BuildOpts {
	caps := pb.Caps.All()
	caps = slices.DeleteFunc(caps, func(one *apicaps.PBCap) bool { return slices.Contains(f.settings.UnsupportedCaps, one.ID) })
	return client.BuildOpts{
		Opts:      f.attrs,
		SessionID: session,
		Workers:   []client.WorkerInfo{{ID: "w", Platforms: f.workers}},
		Product:   "buildkit",
		LLBCaps:   pb.Caps.CapSet(caps),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

func (f *fake) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }
func (f *fake) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("no containers")
}

func (f *fake) Warn(_ context.Context, _ digest.Digest, msg string, opts client.WarnOpts) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rule, rest, _ := strings.Cut(msg, ": ")
	line := 0
	if at := strings.LastIndex(rest, " (line "); at >= 0 {
		line, _ = strconv.Atoi(strings.TrimSuffix(rest[at+7:], ")"))
		rest = rest[:at]
	}
	ranges := []string{}
	for _, r := range opts.Range {
		ranges = append(ranges, rangeText(r))
	}
	f.warnings = append(f.warnings, map[string]any{"rule": rule, "message": rest, "line": line,
		"ranges": ranges, "url": opts.URL, "description": string(opts.Detail[0])})
	return nil
}

func rangeText(r *pb.Range) string {
	return fmt.Sprintf("%d:%d-%d:%d", r.Start.Line, r.Start.Character, r.End.Line, r.End.Character)
}

func (f *fake) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Definition == nil {
		return nil, fmt.Errorf("a frontend was asked for: %s", req.Frontend)
	}
	made := &ref{def: req.Definition, eval: req.Evaluate}
	directory := f.dir
	if len(req.Definition.Def) == 2 {
		var op pb.Op
		if err := op.UnmarshalVT(req.Definition.Def[0]); err != nil {
			return nil, err
		}
		if source := op.GetSource(); source != nil {
			name, ok := strings.CutPrefix(source.Identifier, "local://")
			if relative, known := f.directories[name]; ok && known {
				directory = filepath.Join(f.dir, relative)
			}
		}
	}
	made.read = func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(directory, name)) }
	f.solves = append(f.solves, made)
	result := client.NewResult()
	result.SetRef(made)
	return result, nil
}

func (f *fake) lookup(name string, opt sourceresolver.Opt) (digest.Digest, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	note := map[string]string{"ref": name, "log_name": opt.LogName, "platform": "", "mode": ""}
	var platform *ocispecs.Platform
	if image := opt.ImageOpt; image != nil {
		platform = image.Platform
		note["mode"] = image.ResolveMode
	}
	if layout := opt.OCILayoutOpt; layout != nil {
		platform = layout.Platform
		note["oci_store"], note["oci_session"] = layout.Store.StoreID, layout.Store.SessionID
	}
	own := f.workers[0]
	if platform != nil {
		own = *platform
		note["platform"] = platforms.FormatAll(own)
	}
	f.resolves = append(f.resolves, note)
	prefix := "failed to resolve source metadata for " + name + ": "
	known, ok := f.images[name]
	if !ok {
		return "", nil, errors.New(prefix + name + ": not found")
	}
	if known.Error != "" {
		return "", nil, errors.New(prefix + known.Error)
	}
	config, ok := known.Platforms[platforms.Format(platforms.Normalize(own))]
	if !ok {
		return "", nil, errors.New(prefix + "no match for platform in manifest: not found")
	}
	return digest.Digest(known.Digest), config, nil
}

func (f *fake) ResolveImageConfig(_ context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	dgst, config, err := f.lookup(name, opt)
	return name, dgst, config, err
}

func (f *fake) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	answer := &sourceresolver.MetaResponse{Op: op}
	scheme, name, _ := strings.Cut(op.Identifier, "://")
	switch scheme {
	case "docker-image", "oci-layout":
		dgst, config, err := f.lookup(name, opt)
		if err != nil {
			return nil, err
		}
		answer.Image = &sourceresolver.ResolveImageResponse{Digest: dgst, Config: config}
	case "http", "https":
		answer.HTTP = &sourceresolver.ResolveHTTPResponse{LastModified: f.settings.SourceMetadata[op.Identifier].LastModified}
	}
	return answer, nil
}

func ops(def *pb.Definition) (digests []string, list []any, err error) {
	groups := map[string]string{}
	list = []any{}
	for _, data := range def.Def {
		dgst := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		digests = append(digests, dgst)
		var op pb.Op
		if err := proto.Unmarshal(data, &op); err != nil {
			return nil, nil, err
		}
		encode := func(message proto.Message) any {
			data, err := protojson.Marshal(message)
			if err != nil {
				panic(err)
			}
			var value any
			if err := json.Unmarshal(data, &value); err != nil {
				panic(err)
			}
			return value
		}
		var metadata any = map[string]any{}
		if known := def.Metadata[dgst]; known != nil {
			metadata = encode(known)
			if group, ok := metadata.(map[string]any)["progressGroup"].(map[string]any); ok {
				id := group["id"].(string)
				if groups[id] == "" {
					groups[id] = fmt.Sprintf("PG-%d", len(groups))
				}
				group["id"] = groups[id]
			}
		}
		ranges := []string{}
		if def.Source != nil && def.Source.Locations[dgst] != nil {
			for _, location := range def.Source.Locations[dgst].Locations {
				for _, r := range location.Ranges {
					ranges = append(ranges, fmt.Sprintf("%d@%s", location.SourceIndex, rangeText(r)))
				}
			}
		}
		list = append(list, map[string]any{"digest": dgst, "op": encode(&op), "metadata": metadata, "ranges": ranges})
	}
	return digests, list, nil
}

func writeJSON(path string, value any) {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		panic(err)
	}
	write(path, string(data)+"\n")
}

func write(path, data string) {
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		panic(err)
	}
}

func newFake(dir string, s *settings, images map[string]image) *fake {
	f := &fake{settings: s, dir: filepath.Join(dir, "ctx"), directories: map[string]string{}, images: images}
	f.attrs = s.attributes(f.directories)
	workers := s.WorkerPlatforms
	if len(workers) == 0 {
		workers = []string{"linux/amd64", "linux/arm64"}
	}
	for _, name := range workers {
		f.workers = append(f.workers, platforms.MustParse(name))
	}
	return f
}

func run(dir string, images map[string]image) {
	var s settings
	data, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		panic(fmt.Sprint(dir, err))
	}
	out := filepath.Join(dir, "expected")
	os.RemoveAll(out)
	os.MkdirAll(out, 0o755)
	f := newFake(dir, &s, images)
	attrs := maps.Clone(f.attrs)
	f.attrs["cmdline"] = "" // A syntax line is not followed.
	result, err := builder.Build(context.Background(), f)
	requests := map[string]any{"attrs": attrs}
	final := map[*ref]bool{}
	if err != nil {
		write(filepath.Join(out, "error.txt"), err.Error()+"\n")
		lines := ""
		for _, source := range errdefs.Sources(err) {
			var texts []string
			for _, r := range source.Ranges {
				texts = append(texts, rangeText(r))
			}
			lines += strings.Join(texts, " ") + "\n"
		}
		write(filepath.Join(out, "error.ranges"), lines)
	} else {
		targets := map[string]*ref{}
		if result.Ref != nil {
			targets[""] = result.Ref.(*ref)
		}
		for name, one := range result.Refs {
			targets[name] = one.(*ref)
		}
		for id, target := range targets {
			final[target] = true
			name, suffix := "result", ""
			if id != "" {
				name, suffix = strings.ReplaceAll(id, "/", "-"), "/"+id
			}
			digests, list, err := ops(target.def)
			if err != nil {
				panic(err)
			}
			lines := strings.Join(digests, "\n")
			if lines != "" {
				lines += "\n"
			}
			write(filepath.Join(out, name+".digests"), lines)
			writeJSON(filepath.Join(out, name+".ops.json"), list)
			var config any
			if err := json.Unmarshal(result.Metadata["containerimage.config"+suffix], &config); err != nil {
				panic(err)
			}
			writeJSON(filepath.Join(out, name+".config.json"), config)
		}
		requests["metadata"] = slices.Sorted(maps.Keys(result.Metadata))
		if data, ok := result.Metadata["refs.platforms"]; ok {
			var known struct{ Platforms []struct{ ID string } }
			if err := json.Unmarshal(data, &known); err != nil {
				panic(err)
			}
			ids := []string{}
			for _, one := range known.Platforms {
				ids = append(ids, one.ID)
			}
			requests["platforms"] = ids
		}
	}
	loads := []map[string]any{}
	for _, solve := range f.solves {
		if final[solve] || len(solve.def.Def) != 2 {
			continue
		}
		digests, _, _ := ops(solve.def)
		name := solve.def.Metadata[digests[0]].Description["llb.customname"]
		loads = append(loads, map[string]any{"name": name, "digests": digests})
	}
	sort.SliceStable(loads, func(a, b int) bool { return loads[a]["name"].(string) < loads[b]["name"].(string) })
	loads = slices.CompactFunc(loads, func(a, b map[string]any) bool { return a["name"] == b["name"] })
	sort.SliceStable(f.resolves, func(a, b int) bool {
		return f.resolves[a]["ref"]+f.resolves[a]["platform"] < f.resolves[b]["ref"]+f.resolves[b]["platform"]
	})
	if f.resolves == nil {
		f.resolves = []map[string]string{}
	}
	requests["resolves"], requests["loads"] = f.resolves, loads
	writeJSON(filepath.Join(out, "requests.json"), requests)
	if f.warnings == nil {
		f.warnings = []map[string]any{}
	}
	writeJSON(filepath.Join(out, "warnings.json"), f.warnings)
	if s.Check {
		check(out, newFake(dir, &s, images))
	}
}

func check(out string, f *fake) {
	f.attrs["requestid"], f.attrs["cmdline"] = "frontend.lint", ""
	result, err := builder.Build(context.Background(), f)
	if err != nil {
		writeJSON(filepath.Join(out, "check.json"), map[string]any{"failed": err.Error()})
		return
	}
	type location struct{ Ranges []*pb.Range }
	var found struct {
		Warnings []struct {
			RuleName, Description, URL, Detail string
			Location                           location
		}
		BuildError *struct {
			Message  string
			Location location
		}
	}
	if err := json.Unmarshal(result.Metadata["result.json"], &found); err != nil {
		panic(err)
	}
	ranges := func(l location) []string {
		texts := []string{}
		for _, r := range l.Ranges {
			texts = append(texts, rangeText(r))
		}
		return texts
	}
	warnings := []any{}
	for _, w := range found.Warnings {
		warnings = append(warnings, map[string]any{"rule": w.RuleName, "message": w.Detail, "url": w.URL,
			"description": w.Description, "ranges": ranges(w.Location)})
	}
	var wrong any
	if found.BuildError != nil {
		wrong = map[string]any{"message": found.BuildError.Message, "ranges": ranges(found.BuildError.Location)}
	}
	checked := map[string]any{"warnings": warnings}
	if wrong != nil {
		checked["error"] = wrong
	}
	writeJSON(filepath.Join(out, "check.json"), checked)
}

func main() {
	bench := flag.Int("bench", 0, "compile each case this many times, and print the fastest time")
	imagesFile := flag.String("images", "", "images.json")
	flag.Parse()
	images := map[string]image{}
	data, err := os.ReadFile(*imagesFile)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(data, &images); err != nil {
		panic(err)
	}
	for _, corpus := range flag.Args() {
		entries, err := os.ReadDir(corpus)
		if err != nil {
			panic(err)
		}
		for _, entry := range entries {
			dir := filepath.Join(corpus, entry.Name())
			if _, err := os.Stat(filepath.Join(dir, "case.json")); err != nil {
				continue
			}
			if *bench == 0 {
				func() {
					defer func() {
						if cause := recover(); cause != nil {
							fmt.Println("PANIC", dir, cause)
							os.RemoveAll(dir)
						}
					}()
					run(dir, images)
				}()
				continue
			}
			best := time.Duration(1 << 62)
			for range *bench {
				var s settings
				data, _ := os.ReadFile(filepath.Join(dir, "case.json"))
				json.Unmarshal(data, &s)
				f := newFake(dir, &s, images)
				start := time.Now()
				if _, err := builder.Build(context.Background(), f); err != nil {
					panic(err)
				}
				best = min(best, time.Since(start))
			}
			fmt.Println(entry.Name(), best)
		}
	}
}
