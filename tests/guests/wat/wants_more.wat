;; A component that wants a function that its interface does not have.
(component
  (import "wasi:cli/environment@0.2.0" (instance (export "launch" (func))))
  (core module $one (func (export "run") (result i32) i32.const 0))
  (core instance $a (instantiate $one))
  (func $run (result (result)) (canon lift (core func $a "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
