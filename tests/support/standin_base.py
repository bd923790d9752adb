"""A stand-in for a Python base, which compiles in milliseconds: it prints the program that it runs.

Example:
    async with Executor(bases=BASES) as executor:
        program = python_program({"app.py": "print(1)"})
        result = await executor.run(run_request(program, max_memory_mb=64), program.load)
"""

import hashlib

from guest_programs import Guest
from wasmtime import wat2wasm

from sealspace.documents.python_programs import PythonProgram, python_program_bytes

BASE_TEXT = """
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $error_))
    (export "output-stream" (type $out (sub resource)))
    (type $failure_ (variant (case "last-operation-failed" (own $error_)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure_)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $failure)))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $output_))
    (export "output-stream" (type $out (eq $output_)))
    (export "get-stdout" (func (result (own $out))))))
  (import "sealspace:python/program@0.1.0" (instance $program
    (export "read" (func (result string)))))
  (core module $libc
    (memory (export "memory") 128)
    (global $free (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $free))
      (global.set $free (i32.and
        (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
      (local.get $at)))
  (core instance $c (instantiate $libc))
  (alias core export $c "memory" (core memory $memory))
  (alias core export $c "cabi_realloc" (core func $realloc))
  (core func $read (canon lower (func $program "read")
    (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core func $get_stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory) (realloc $realloc)))
  (core module $main
    (import "own" "memory" (memory 1))
    (import "own" "read" (func $read (param i32)))
    (import "own" "stdout" (func $stdout (result i32)))
    (import "own" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (local $out i32) (local $at i32) (local $left i32) (local $part i32)
      (call $read (i32.const 16))
      (local.set $at (i32.load (i32.const 16)))
      (local.set $left (i32.load (i32.const 20)))
      (local.set $out (call $stdout))
      (loop $more
        (local.set $part (select (local.get $left) (i32.const 4096)
          (i32.lt_u (local.get $left) (i32.const 4096))))
        (call $write (local.get $out) (local.get $at) (local.get $part) (i32.const 32))
        (local.set $at (i32.add (local.get $at) (local.get $part)))
        (local.set $left (i32.sub (local.get $left) (local.get $part)))
        (br_if $more (local.get $left)))
      (i32.const 0)))
  (core instance $m (instantiate $main (with "own" (instance
    (export "memory" (memory $memory)) (export "read" (func $read))
    (export "stdout" (func $get_stdout)) (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $m "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
"""
BASE = bytes(wat2wasm(BASE_TEXT))
BASE_SHA256 = hashlib.sha256(BASE).hexdigest()
BASES = {BASE_SHA256: BASE}


def python_program(files: dict[str, str], base: str = BASE_SHA256) -> Guest:
    """Return a Python program of some files."""
    return Guest(python_program_bytes(PythonProgram(base=base, files=files)), "python")
