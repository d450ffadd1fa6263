//! Properties of what is parsed and printed, and of a stub that is sent anything at all.

use agent_stub::protocol::{Lines, MessageError, Order, Report};
use agent_stub::script::Script;

#[test]
fn an_order_to_do_nothing_parses_from_what_it_prints() {
    let order = Order::Do(Script::default());
    assert_eq!(order.to_string().parse(), Ok(order));
}
