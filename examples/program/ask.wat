;; Sends a request to a host of its developer's, and writes whether it was told `host-refused`.
(module
  (import "sealspace:http/client@0.1.0" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\03\00\00\00GET\1e\00\00\00https://collector.example.com/\00\00\00\00")
  (data (i32.const 128) "\"host-refused\"\"another answer\"")
  (func (export "_start") (local $other i32)
    (local.set $other (i32.ne (call $fetch (i32.const 64) (i32.const 45)) (i32.const -2)))
    (i32.store (i32.const 0) (select (i32.const 142) (i32.const 128) (local.get $other)))
    (i32.store (i32.const 4) (select (i32.const 16) (i32.const 14) (local.get $other)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
