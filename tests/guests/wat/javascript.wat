;; Shaped as jco makes a component with the backend `qjs`: an engine with a memory of its own, and
;; beside it a part that has the imports. They exchange data, which wasmtime compiles to modules of
;; two memories. Writes its input, and the length of JWT_KEY, which is below ten.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $error_))
    (export "input-stream" (type $in (sub resource)))
    (export "output-stream" (type $out (sub resource)))
    (type $failure_ (variant (case "last-operation-failed" (own $error_)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure_)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64)
        (result (result (list u8) (error $failure)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $failure)))))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $input_))
    (export "input-stream" (type $in (eq $input_)))
    (export "get-stdin" (func (result (own $in))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $output_))
    (export "output-stream" (type $out (eq $output_)))
    (export "get-stdout" (func (result (own $out))))))

  (component $engine
    (core module $code (memory (export "memory") 2)
      (global $heap (mut i32) (i32.const 1024))
      (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
        (global.get $heap)
        (global.set $heap
          (i32.and (i32.add (i32.add (global.get $heap) (local.get $size)) (i32.const 7))
            (i32.const -8))))
      ;; input, a blank, and the length of the key in one digit
      (func (export "evaluate")
        (param $input i32) (param $size i32) (param i32) (param $key_size i32) (result i32)
        (memory.copy (i32.const 65536) (local.get $input) (local.get $size))
        (i32.store8 offset=65536 (local.get $size) (i32.const 32))
        (i32.store8 offset=65537 (local.get $size) (i32.add (local.get $key_size) (i32.const 48)))
        (i32.store (i32.const 8) (i32.const 65536))
        (i32.store (i32.const 12) (i32.add (local.get $size) (i32.const 2)))
        (i32.const 8)))
    (core instance $c (instantiate $code))
    (func (export "evaluate") (param "input" (list u8)) (param "key" string) (result (list u8))
      (canon lift (core func $c "evaluate") (memory (core memory $c "memory"))
        (realloc (core func $c "realloc")))))
  (instance $engine (instantiate $engine))

  (core module $shared (memory (export "memory") 3)
    (global $heap (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (global.get $heap)
      (global.set $heap
        (i32.and (i32.add (i32.add (global.get $heap) (local.get $size)) (i32.const 7))
          (i32.const -8)))))
  (core instance $s (instantiate $shared))
  (alias core export $s "memory" (core memory $memory))
  (alias core export $s "realloc" (core func $realloc))
  (core func $variables (canon lower (func $environment "get-environment")
    (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core func $get_stdin (canon lower (func $stdin "get-stdin")))
  (core func $get_stdout (canon lower (func $stdout "get-stdout")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory) (realloc $realloc)))
  (core func $evaluate (canon lower (func $engine "evaluate")
    (memory $memory) (realloc $realloc)))

  (core module $bindings
    (import "shared" "memory" (memory 3))
    (import "wasi" "variables" (func $variables (param i32)))
    (import "wasi" "stdin" (func $stdin (result i32)))
    (import "wasi" "stdout" (func $stdout (result i32)))
    (import "wasi" "read" (func $read (param i32 i64 i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (import "engine" "evaluate" (func $evaluate (param i32 i32 i32 i32 i32)))
    (func (export "run") (result i32) (local $in i32) (local $variable i32) (local $size i32)
      (call $variables (i32.const 8))
      (local.set $variable (i32.load (i32.const 8)))
      ;; the input, until its end, goes to 1024
      (local.set $in (call $stdin))
      (loop $more
        (call $read (local.get $in) (i64.const 4096) (i32.const 16))
        (if (i32.eqz (i32.load8_u (i32.const 16))) (then
          (memory.copy (i32.add (i32.const 1024) (local.get $size))
            (i32.load (i32.const 20)) (i32.load (i32.const 24)))
          (local.set $size (i32.add (local.get $size) (i32.load (i32.const 24))))
          (br $more))))
      ;; the value of the only variable is the key
      (call $evaluate (i32.const 1024) (local.get $size)
        (i32.load offset=8 (local.get $variable)) (i32.load offset=12 (local.get $variable))
        (i32.const 32))
      (call $write (call $stdout) (i32.load (i32.const 32)) (i32.load (i32.const 36))
        (i32.const 16))
      (i32.load8_u (i32.const 16))))
  (core instance $b (instantiate $bindings
    (with "shared" (instance $s))
    (with "engine" (instance (export "evaluate" (func $evaluate))))
    (with "wasi" (instance
      (export "variables" (func $variables)) (export "stdin" (func $get_stdin))
      (export "stdout" (func $get_stdout)) (export "read" (func $read))
      (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $b "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
