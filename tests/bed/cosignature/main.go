// Signs images and checks their signatures with the libraries that cosign is made of, so that neither
// side of a test is our own.
//
//	cosignature sign KEY REF          attaches a signature: cosign 1 and 2
//	cosignature bundle KEY REF        leaves a bundle as a referrer: cosign 3
//	cosignature attest KEY REF        the same with a statement that is no signature
//	cosignature verify PUBLIC REF     ends with 0 where an attached signature holds
package main

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssev1 "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	simple     = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotation = "dev.cosignproject.cosign/signature"
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statement  = "application/vnd.in-toto+json"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 3 {
		return errors.New("usage: cosignature sign|bundle|attest|verify KEY REF")
	}
	key, err := os.ReadFile(words[1])
	if err != nil {
		return err
	}
	reference, err := name.ParseReference(words[2], name.Insecure)
	if err != nil {
		return err
	}
	image, err := remote.Get(reference)
	if err != nil {
		return err
	}
	digest := reference.Context().Digest(image.Digest.String())
	beside := reference.Context().Tag(strings.Replace(image.Digest.String(), ":", "-", 1) + ".sig")
	switch words[0] {
	case "sign":
		return sign(key, digest, beside)
	case "bundle":
		return refer(key, digest, image, "https://sigstore.dev/cosign/sign/v1")
	case "attest":
		return refer(key, digest, image, "https://spdx.dev/Document")
	case "verify":
		return verify(key, digest, beside)
	}
	return fmt.Errorf("what is %q?", words[0])
}

func signer(key []byte) (signature.Signer, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if block.Type == "ENCRYPTED SIGSTORE PRIVATE KEY" {
		opened, err := encrypted.Decrypt(block.Bytes, []byte(os.Getenv("COSIGN_PASSWORD")))
		if err != nil {
			return nil, err
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: opened})
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(key, cryptoutils.SkipPassword)
	if err != nil {
		return nil, err
	}
	return signature.LoadSigner(private, crypto.SHA256)
}

func sign(key []byte, digest name.Digest, beside name.Tag) error {
	signer, err := signer(key)
	if err != nil {
		return err
	}
	text, err := payload.Cosign{Image: digest}.MarshalJSON()
	if err != nil {
		return err
	}
	made, err := signer.SignMessage(bytes.NewReader(text))
	if err != nil {
		return err
	}
	all, err := remote.Image(beside)
	if err != nil {
		all = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	all, err = mutate.Append(all, mutate.Addendum{
		Layer:       static.NewLayer(text, simple),
		Annotations: map[string]string{annotation: base64.StdEncoding.EncodeToString(made)},
	})
	if err != nil {
		return err
	}
	return remote.Write(beside, all)
}

type raw []byte

func (r raw) RawManifest() ([]byte, error)       { return r, nil }
func (raw) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func refer(key []byte, digest name.Digest, image *remote.Descriptor, predicate string) error {
	plain, err := signer(key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"name": "", "digest": map[string]string{"sha256": image.Digest.Hex}}},
		"predicateType": predicate,
		"predicate":     map[string]any{},
	})
	if err != nil {
		return err
	}
	wrapped, err := dsse.WrapSigner(plain, statement).SignMessage(bytes.NewReader(text))
	if err != nil {
		return err
	}
	var envelope dssev1.Envelope
	if err := protojson.Unmarshal(wrapped, &envelope); err != nil {
		return err
	}
	made, err := protojson.Marshal(&bundlev1.Bundle{
		MediaType: bundleType,
		VerificationMaterial: &bundlev1.VerificationMaterial{
			Content: &bundlev1.VerificationMaterial_PublicKey{PublicKey: &commonv1.PublicKeyIdentifier{Hint: "test"}},
		},
		Content: &bundlev1.Bundle_DsseEnvelope{DsseEnvelope: &envelope},
	})
	if err != nil {
		return err
	}
	layer, config := static.NewLayer(made, bundleType), static.NewLayer([]byte("{}"), "application/vnd.oci.empty.v1+json")
	for _, blob := range []v1.Layer{layer, config} {
		if err := remote.WriteLayer(digest.Context(), blob); err != nil {
			return err
		}
	}
	describe := func(blob v1.Layer, kind string) map[string]any {
		of, _ := blob.Digest()
		size, _ := blob.Size()
		return map[string]any{"mediaType": kind, "digest": of.String(), "size": size}
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     types.OCIManifestSchema1,
		"artifactType":  bundleType,
		"config":        describe(config, "application/vnd.oci.empty.v1+json"),
		"layers":        []any{describe(layer, bundleType)},
		"subject":       map[string]any{"mediaType": image.MediaType, "digest": image.Digest.String(), "size": image.Size},
	})
	if err != nil {
		return err
	}
	of, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	return remote.Put(digest.Context().Digest(of.String()), raw(manifest))
}

func verify(key []byte, digest name.Digest, beside name.Tag) error {
	public, err := cryptoutils.UnmarshalPEMToPublicKey(key)
	if err != nil {
		return err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return err
	}
	all, err := remote.Image(beside)
	if err != nil {
		return err
	}
	manifest, err := all.Manifest()
	if err != nil {
		return err
	}
	failure := errors.New("there is no signature")
	for _, one := range manifest.Layers {
		layer, err := all.LayerByDigest(one.Digest)
		if err != nil {
			return err
		}
		reader, err := layer.Compressed()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			return err
		}
		made, err := base64.StdEncoding.DecodeString(one.Annotations[annotation])
		if err != nil {
			return err
		}
		var read payload.Cosign
		if failure = verifier.VerifySignature(bytes.NewReader(made), bytes.NewReader(text)); failure != nil {
			continue
		}
		if err := json.Unmarshal(text, &read); err != nil {
			return err
		}
		if read.Image.DigestStr() != digest.DigestStr() {
			return fmt.Errorf("it is of %s", read.Image)
		}
		fmt.Println(string(text))
		return nil
	}
	return fmt.Errorf("no signature holds: %w", failure)
}
