# An image with one static binary and the CA certificates that it needs to
# reach an origin over TLS. How to run it: README.md, "In containers".
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /modelfs ./cmd/modelfs

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /modelfs /modelfs
ENTRYPOINT ["/modelfs"]
CMD ["mount", "/models"]
