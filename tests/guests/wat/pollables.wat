;; A component that keeps asking for clocks to wait for, each of which takes memory of the host.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $pollable_))
    (export "pollable" (type $p (eq $pollable_)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core module $one
    (import "clock" "subscribe" (func $subscribe (param i64) (result i32)))
    (func (export "run") (result i32)
      (loop $more (drop (call $subscribe (i64.const 1000000000000))) (br $more))
      i32.const 0))
  (core instance $a (instantiate $one (with "clock" (instance (export "subscribe" (func $subscribe))))))
  (func $run (result (result)) (canon lift (core func $a "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
